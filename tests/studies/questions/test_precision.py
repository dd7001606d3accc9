"""What is lost of updates in bfloat16: shares by role, and the words for them."""

import torch

from adaln.analysis.role_updates import updates_by_role
from adaln.models import MODELS, skeleton
from adaln.specs import DataSpec
from adaln.studies import SCALES, STUDIES, Overrides, Plan
from adaln.studies.questions.precision import CELLS, TYPES, lost_text, row


def test_rows_differ_in_start_rate_and_stored_type_alone_and_all_are_under_autocast():
    for scale in SCALES.values():
        configs = {job.label: job.config for job in Plan(STUDIES["precision"], scale, (0,), Overrides()).jobs()}
        assert {config.precision for config in configs.values()} == {"bfloat16"}
        for start, factor in CELLS:
            usual, stored = (configs[row(start, factor, one)] for one in TYPES)
            assert (usual.param_dtype, stored.param_dtype) == ("float32", "bfloat16")
            assert usual.scheme.name.partition(", ")[0] == start and usual.optim == stored.optim


def test_shares_are_of_the_rows_of_a_role():
    names = dict(skeleton(MODELS["tiny"], DataSpec(1, 8, 8, 10)).named_parameters())
    before = {name: torch.zeros(tensor.shape) for name, tensor in names.items()}
    after = {name: tensor.clone() for name, tensor in before.items()}
    after["final_layer.linear.weight"] += 1
    for block in range(4):
        after[f"blocks.{block}.adaLN_modulation.1.weight"][2 * 64 : 3 * 64] = 1  # the attention's gate
    shares = {role: share for role, (_, share, _) in updates_by_role(before, after).items()}
    inputs, branches = 64, 2
    assert shares["gate"] == 64 * inputs / (branches * 64 * (inputs + 1))
    num_outputs = len(before["final_layer.linear.bias"])
    assert shares["head"] == inputs * num_outputs / ((inputs + 1) * num_outputs)
    assert {role for role, share in shares.items() if share} == {"gate", "head"}


def test_losses_are_told_of_what_moves_in_float32():
    cell = CELLS[0]
    moved = {row(*cell, "float32"): {"gate": 0.5, "head": 1.0, "shift": 0.0}}
    moved[row(*cell, "bfloat16")] = {"gate": 0.4, "head": 0.25, "shift": 0.0}
    assert lost_text(cell, moved).endswith("lose 20 % in gates, the most in head (75 %) and the least in gate (20 %).")
