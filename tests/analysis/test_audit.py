"""What an audit of weights says."""

import copy
import json
from dataclasses import asdict
from math import inf, nan

import pytest
import torch

import adaln
from adaln.analysis.audit import audit
from adaln.analysis.live import branch_energies
from adaln.analysis.sketch import sketch
from adaln.analysis.starts import LIBRARY_DEFAULT, PIXART, ZERO_BLOCKS, Spread, distance
from adaln.conditioning import SCHEMES, Constant, Role, find_sites, standard_inputs
from adaln.conditioning.distributions import DISTRIBUTIONS, Normal, std_of
from adaln.models import MODELS, build
from adaln.rng import generator
from adaln.tensor_files import save_tensors
from helpers.foreign import CONFIGS, foreign
from helpers.networks import DIGITS
from helpers.zoo import zoo_network

INDISTINCT = {
    "adaln-mix": "adaln-step1",
    "adaln-backbone": "adaln-gaussian",
    "gpt2-residual": "adaln",
    "head-normal": "adaln-zero",
}
"""Schemes that draw the same numbers: they differ in the update order, and outside the modulation."""


def network(name="tiny", scheme="adaln-zero"):
    model = build(MODELS[name], DIGITS, generator("audit", 0))
    adaln.initialise(model, scheme)
    return model


def tensors(model):
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def trained(scheme="adaln-zero", steps=4):
    """A few steps of AdamW on noise: enough for every row to leave its start."""
    model = network(scheme=scheme)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for step in range(steps):
        rng = generator("audit", "noise", step)
        output = model(torch.randn(8, 1, 8, 8, generator=rng), torch.arange(8) * 100, torch.arange(8))
        (output - torch.randn(output.shape, generator=rng)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    return tensors(model)


def kinds(found):
    return {(finding.level, finding.kind) for finding in found.findings}


def texts(found, kind):
    return [finding.text for finding in found.findings if finding.kind == kind]


@pytest.mark.parametrize(
    "scheme", [name for name, row in SCHEMES.items() if "blockwise" not in name and row.needs in ("", "tables")]
)
def test_every_scheme_is_recognised_by_what_it_leaves(scheme):
    row = SCHEMES[scheme]
    found = audit(tensors(network("tiny-shared" if row.needs else "tiny", scheme)))
    assert found.start.name == INDISTINCT.get(scheme, scheme)
    assert found.start.is_start
    random_vectors = not isinstance(row.gate.bias, Constant)
    assert found.start.distance < (0.07 if random_vectors else 0.02)  # ln of the std of 64 numbers is 1 / sqrt(128) off
    assert all(row.nearest.is_start for row in found.rows)


@pytest.mark.slow
def test_block_wise_schemes_are_told_apart_where_there_are_28_blocks():
    shallow = MODELS["tiny"]
    deep = build(type(shallow)(32, 28, 4, 2), DIGITS, generator("audit", 1))
    for scheme in ("adaln-gaussian-blockwise", "adaln-gaussian-blockwise-half-as-printed"):
        adaln.initialise(deep, scheme)
        found = audit(tensors(deep))
        assert (found.start.name, found.start.is_start) == (scheme, True)


@pytest.mark.parametrize("scheme", ["adaln-zero", "adaln-gaussian", "adaln-step1"])
def test_a_trained_network_is_at_no_start(scheme):
    found = audit(trained(scheme))
    assert not found.start.is_start
    assert not any(row.nearest.is_start for row in found.rows)


def test_trained_weights_of_the_papers_very_spread_are_not_taken_for_its_start():
    """adaLN-Zero grows weights of std near 1e-3: the biases, exactly zero at every start, tell."""
    weights = tensors(network(scheme="adaln-gaussian"))
    for name in weights:
        if name.endswith("adaLN_modulation.1.bias"):
            weights[name] = 1e-4 * torch.randn(weights[name].shape, generator=generator("audit", name))
    assert not audit(weights).start.is_start


def test_a_spread_that_differs_from_block_to_block_is_no_start():
    weights = tensors(network(scheme="adaln-gaussian"))
    weights["blocks.2.adaLN_modulation.1.weight"] *= 1.15
    found = audit(weights)
    assert found.start.name == "adaln-gaussian" and not found.start.is_start
    assert {row.block for row in found.rows if not row.nearest.is_start} == {None, "blocks.2"}


def test_distance_is_the_logarithm_of_the_ratio_of_spreads_plus_the_difference_in_zeros():
    values = sketch(2e-3 * torch.randn(100_000, generator=generator("audit", "distance")))
    assert distance(values, Spread(1e-3, 0.0)) == pytest.approx(0.6931, abs=0.01)
    assert distance(values, Spread(4e-3, 0.5)) == pytest.approx(1.1931, abs=0.01)
    assert distance(sketch(torch.zeros(5)), Spread(0.0, 1.0)) == 0
    assert distance(sketch(torch.zeros(5)), Spread(1e-3, 0.0)) > 10


@pytest.mark.parametrize("kind", list(DISTRIBUTIONS))
def test_the_spread_that_is_expected_is_the_spread_that_is_drawn(kind):
    cls = DISTRIBUTIONS[kind]
    arguments = {
        "constant": (),
        "xavier": (),
        "quantiles": ((-4e-3, -1e-3, 0.0, 2e-3),),
        "per-branch": (Normal(2e-3), 8),
    }
    distribution = cls(*arguments.get(kind, (2e-3,)))
    drawn = torch.empty(300, 200)
    distribution.fill_(drawn, generator("audit", kind), (1200, 200))
    assert drawn.std().item() == pytest.approx(std_of(distribution, 300, (1200, 200)), rel=0.02)


def test_rows_are_roles_by_block_in_forward_order_with_all_blocks_first():
    found = audit(tensors(network()))
    one_by_one = [role for role in ("gate", "scale", "shift") for _ in range(5)]
    assert [row.role for row in found.rows] == [*one_by_one, "final scale", "final shift"]
    assert [row.block for row in found.rows[:5]] == [None, *(f"blocks.{i}" for i in range(4))]
    assert found.rows[0].shape == (512, 64)
    assert found.rows[1].shape == (128, 64)


def test_the_numbers_of_a_row_are_those_of_its_values():
    weights = trained()
    found = audit(weights)
    row = next(row for row in found.rows if row.role == "scale" and row.block == "blocks.1")
    matrix = weights["blocks.1.adaLN_modulation.1.weight"].double()
    values = torch.cat([matrix[64:128], matrix[256:320]]).flatten()  # scale of attention, of MLP
    assert row.moments.mean == pytest.approx(values.mean().item())
    assert row.moments.std == pytest.approx(values.std(correction=0).item())
    kurtosis = ((values - values.mean()) ** 4).mean() / values.var(correction=0) ** 2 - 3
    assert row.moments.excess_kurtosis == pytest.approx(kurtosis.item(), rel=1e-6)
    assert row.bias.elements == 128
    assert row.moments.zero_share == (values == 0).double().mean().item()


def test_an_audit_is_json_whatever_the_weights_hold():
    weights = trained()
    weights["blocks.0.adaLN_modulation.1.weight"][3] = nan
    weights["blocks.1.mlp.fc1.weight"][0, 0] = -inf
    found = audit(weights)
    assert json.loads(json.dumps(asdict(found), allow_nan=False))["family"] == "DiT"
    assert texts(found, "not finite") == [
        "NaN or infinite values in blocks.0.adaLN_modulation.1.weight, blocks.1.mlp.fc1.weight"
    ]
    assert not found.start.is_start
    (row,) = (row for row in found.rows if row.role == "shift" and row.block == "blocks.0")
    assert row.moments.nans == 64


def test_what_is_not_finite_is_named_whatever_its_shape_type_and_file(tmp_path):
    weights = trained()
    weights["blocks.1.mlp.fc1.weight"] = weights["blocks.1.mlp.fc1.weight"].bfloat16()
    weights["blocks.1.mlp.fc1.weight"][-1, -1] = inf
    weights |= {"temperature": torch.tensor(nan), "steps": torch.tensor(3), "nothing": torch.empty(0, 4)}
    save_tensors(tmp_path / "net.safetensors", weights)
    for source in (weights, tmp_path / "net.safetensors"):
        (text,) = texts(audit(source), "not finite")
        names = text.removeprefix("NaN or infinite values in ").split(", ")
        assert sorted(names) == ["blocks.1.mlp.fc1.weight", "temperature"]


# What fools people


def test_our_networks_start_without_warnings():
    for name in ("tiny", "tiny-SE", "tiny-shared", "DiT-LLaMA-tiny", "U-DiT-tiny"):
        found = audit(tensors(build(MODELS[name], DIGITS, generator("audit", 2))))
        assert found.start.is_start
        assert {level for level, _ in kinds(found)} == {"note"}
    assert audit(tensors(build(MODELS["tiny-shared"], DIGITS, generator("audit", 2)))).start.name == PIXART


def test_a_gate_that_never_opened_is_named():
    weights = trained()
    for part in ("weight", "bias"):
        weights[f"blocks.2.adaLN_modulation.1.{part}"][5 * 64 : 6 * 64] = 0
    found = audit(weights)
    assert ("warning", "closed gate") in kinds(found)
    (text,) = texts(found, "closed gate")
    assert text.startswith("1 of 8 gates are exactly zero") and "(blocks.2 mlp)" in text


def test_a_gate_with_a_bias_is_not_closed():
    weights = trained()
    weights["blocks.2.adaLN_modulation.1.weight"][5 * 64 : 6 * 64] = 0
    assert weights["blocks.2.adaLN_modulation.1.bias"][5 * 64 : 6 * 64].any()
    assert not texts(audit(weights), "closed gate")


@pytest.mark.parametrize("name", ["PRXTransformer2DModel", "ErnieImageTransformer2DModel"])
def test_blocks_at_zero_under_a_last_layer_that_torch_starts_are_fresh(name):
    report = audit(zoo_network(name))
    assert report.start.name == ZERO_BLOCKS and report.start.is_start
    assert not [finding for finding in report.findings if finding.level == "warning"]


def test_closed_gates_of_a_fresh_network_are_a_note():
    assert ("note", "closed gate") in kinds(audit(tensors(network())))
    assert not texts(audit(tensors(network(scheme="adaln"))), "closed gate")
    assert not texts(audit(tensors(network(scheme="adaln-gaussian"))), "closed gate")


def test_a_tables_gate_is_closed_only_if_the_shared_modulation_is_too():
    model = network("tiny-shared", "adaln-gaussian")
    weights = tensors(model)
    sites = find_sites(weights)
    assert not texts(audit(weights), "closed gate")  # tables are zero, the shared map is not
    for site in sites:
        if site.role is Role.GATE and site.weight:
            weights[site.weight][site.rows] = 0
    (text,) = texts(audit(weights), "closed gate")
    assert text.startswith("8 of 8 gates")


def test_scale_before_shift_tables_and_missing_gates_are_said_where_they_are_so():
    said = [(finding.kind, name) for name in CONFIGS for finding in audit(tensors(foreign(name))).findings]
    first, tabled, open_ones = (
        [name for kind, name in said if kind == k] for k in ("scale first", "tables", "no gates")
    )
    assert first == ["SD3", "SD3.5", "Flux", "Flux guided", "HunyuanDiT", "AuraFlow"]
    assert tabled == ["PixArt-alpha", "PixArt-sigma", "Sana", "Sana guided"]
    assert open_ones == ["HunyuanDiT"]


def test_tables_are_rows_of_their_own():
    roles = {row.role for row in audit(tensors(foreign("PixArt-sigma"))).rows}
    of_blocks = {f"{role.name.lower()}{kind}" for role in Role for kind in ("", " table")}
    assert roles == of_blocks | {"final scale table", "final shift table"}


def test_the_head_is_watched():
    weights = trained()
    assert not texts(audit(weights), "head")
    weights["final_layer.linear.weight"] = torch.zeros(1)
    weights["final_layer.linear.bias"] = torch.zeros(1)
    assert ("warning", "head") in kinds(audit(weights))
    assert ("note", "head") in kinds(audit(tensors(foreign("DiT"))))


def test_that_there_is_no_modulation_is_an_answer():
    result = audit({"conv.weight": torch.zeros(4, 4)})
    assert (result.start, result.rows, result.num_blocks) == (None, (), 0)
    assert result.blocks() == ["no modulation: by name and shape none of the 1 tensors may be gate, scale or shift"]


def test_gradients_and_wrapped_names_are_audited_too():
    weights = trained()
    wrapped = audit({f"module.{name}": tensor for name, tensor in weights.items()})
    assert asdict(wrapped)["rows"] == asdict(audit(weights))["rows"]


# Live


@pytest.mark.slow
@pytest.mark.parametrize("name", list(CONFIGS))
def test_a_fresh_foreign_network_is_not_zeroed_whatever_its_layers_are_called(name):
    model = foreign(name)
    found = audit(model)
    gates = [site for site in find_sites(tensors(model)) if site.role is Role.GATE and site.branch != "final"]
    shared = {site.branch for site in gates if site.weight} if any(site.weight is None for site in gates) else set()
    assert (found.start.name, found.start.is_start) == (LIBRARY_DEFAULT, True)
    assert (("warning", "unzeroed") in kinds(found)) == bool(gates)  # HunyuanDiT has none
    assert not texts(found, "exchanged rows")
    assert len(found.energies) == len(gates) - len(shared)
    assert all(0 < energy.ratio < energy.open_ratio for energy in found.energies)  # |gate| < 1 at torch's start


@pytest.mark.slow
@pytest.mark.parametrize("name", list(CONFIGS))
def test_a_foreign_network_that_we_zero_is_zeroed(name):
    model = foreign(name)
    adaln.initialise(model, "adaln-zero")
    found = audit(tensors(model))
    assert found.start.is_start and not texts(found, "unzeroed")
    assert found.start.name == ("adaln" if name == "HunyuanDiT" else "adaln-zero")  # without gates they are one
    assert all(energy.ratio == 0 < energy.open_ratio for energy in branch_energies(model, standard_inputs(model)))


@pytest.mark.slow
def test_energy_grows_with_the_std_of_the_gate():
    ratios = []
    for std in (1e-3, 2e-3, 4e-3):
        model = network(scheme=f"adaln-gaussian:{std},0,0")
        energies = audit(model).energies
        ratios.append(energies[0].ratio)
        assert energies[0].open_ratio == audit(network()).energies[0].open_ratio  # shift and scale are 0 in both
    assert ratios[1] / ratios[0] == pytest.approx(2, rel=1e-3)
    assert ratios[2] / ratios[1] == pytest.approx(2, rel=1e-3)


def test_a_gate_of_one_lets_everything_through():
    for energy in audit(network(scheme="adaln")).energies:
        assert energy.ratio == energy.open_ratio


class Exchanged(torch.nn.Module):
    """A final layer that takes scale from the rows where DiT has shift."""

    def __init__(self, layer):
        super().__init__()
        self.linear, self.adaLN_modulation = layer.linear, layer.adaLN_modulation

    def forward(self, x, c):
        scale, shift = self.adaLN_modulation(c).chunk(2, dim=-1)
        normed = torch.nn.functional.layer_norm(x, x.shape[-1:], eps=1e-6)
        return self.linear(normed * (1 + scale) + shift)


def test_exchanged_rows_of_a_final_layer_are_caught():
    model = network(scheme="adaln-gaussian")
    assert not texts(audit(model), "exchanged rows")
    model.final_layer = Exchanged(model.final_layer)
    said = texts(audit(model), "exchanged rows")
    name = "final_layer.adaLN_modulation.1.weight"
    assert said == [
        f"rows 0 to 63 of {name} act as scale; in the DiT layout they are shift of final",
        f"rows 64 to 127 of {name} act as shift; in the DiT layout they are scale of final",
    ]


def test_without_a_known_head_the_blocks_are_still_watched():
    model = network(scheme="adaln-gaussian")
    model.final_layer.other_head = model.final_layer.linear
    del model.final_layer.linear
    model.final_layer.forward = lambda x, c: model.final_layer.other_head(x)
    found = audit(model)
    assert found.head is None and len(found.energies) == 8
    assert not texts(found, "exchanged rows")


def test_a_live_audit_changes_nothing():
    model = foreign("SD3.5").train()
    before = copy.deepcopy(model.state_dict())
    audit(model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training


def test_a_network_with_nan_is_not_run():
    model = network()
    with torch.no_grad():
        model.blocks[0].attn.qkv.weight[0] = nan
    found = audit(model)
    assert kinds(found) >= {("warning", "not finite")} and not found.energies
    json.dumps(asdict(found), allow_nan=False)


def test_unknown_classes_are_audited_with_inputs_of_their_own():
    class Wrapper(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.module = network(scheme="adaln-gaussian")

        def forward(self, **inputs):
            return self.module(**inputs)

    model = Wrapper()
    (not_run,) = (finding for finding in audit(model).findings if finding.kind == "not run")
    assert not_run.text.startswith("only its weights were audited: no standard inputs for Wrapper")
    inputs = {"x": torch.randn(2, 1, 8, 8), "t": torch.tensor([1, 900]), "y": torch.tensor([0, 3])}
    assert len(audit(model, inputs).energies) == 8


@pytest.mark.parametrize("scheme", ["torch-default", "final-zero"])
def test_rows_that_two_starts_begin_alike_are_called_as_the_whole_is(scheme):
    found = audit(network(scheme=scheme))
    assert {row.nearest.name for row in found.rows} == {found.start.name} == {scheme}
