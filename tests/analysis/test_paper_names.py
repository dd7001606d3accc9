from dataclasses import fields

import pytest
import torch

from adaln.analysis.closed_form import BLOCK_STARTS, Weights, order_table
from adaln.analysis.paper_names import TWELVE, UpdateOrder, paper_names, update_order
from adaln.conditioning import SCHEMES, sgd
from adaln.conditioning.update_order import order_parts
from adaln.models import MODELS, build
from adaln.rng import generator
from helpers.networks import DIGITS

ZERO = UpdateOrder(("head", "gate", "never"), ((True, False, False), (True, True, False)))


def network(name: str = "tiny") -> torch.nn.Module:
    return build(MODELS[name], DIGITS, generator("order test", name))


def loss(model: torch.nn.Module, iteration: int) -> torch.Tensor:
    rng = generator("order test", "data", iteration)
    x, t = torch.randn(4, 1, 8, 8, generator=rng), torch.randint(0, 1000, (4,), generator=rng)
    y = torch.randint(0, 10, (4,), generator=rng)
    return (model(x, t, y) - torch.randn(4, 1, 8, 8, generator=rng)).square().mean()


def measured(scheme: str, model: str = "tiny"):
    return update_order(network(model), SCHEMES[scheme], loss, optimizer=sgd)


def test_the_names_are_those_of_the_derived_equations():
    assert tuple(f"W_{field.name}" for field in fields(Weights)) == TWELVE


def test_a_real_network_moves_in_the_order_that_the_equations_say():
    for scheme in ("adaln-zero", "adaln-step1", "adaln-gaussian"):
        found, derived = measured(scheme), order_table(BLOCK_STARTS[scheme])
        assert found.names[:12] == TWELVE
        assert found.differing(derived) == (), scheme


def test_embedders_of_adaln_zero_wait_for_the_modulation_to_open():
    found = measured("adaln-zero").first
    assert (found["timestep embedder"], found["label embedder"]) == (3, 3)
    assert measured("adaln-gaussian").first["timestep embedder"] == 2


def test_gates_that_are_held_never_move():
    first = measured("adaln").first
    assert (first["W_a1"], first["W_a2"]) == (None, None)
    assert {first[name] for name in TWELVE if name not in ("W_a1", "W_a2", "W_f")} == {2}


@pytest.mark.parametrize("name", [name for name in MODELS if "tiny" in name])
def test_every_part_of_every_model_has_a_name(name):
    tensors = dict(network(name).named_parameters())
    names = paper_names(tensors)
    assert set(names) == set(order_parts(tensors))
    assert set(TWELVE) <= set(names.values())
    assert {part.tensor for part, given in names.items() if given == "other"} <= {
        part.tensor for part in names if name.startswith("U-DiT") or "adaLN_modulation" in part.tensor
    }


def test_the_first_move_of_what_never_moves_is_none():
    assert ZERO.first == {"head": 1, "gate": 2, "never": None}
    assert UpdateOrder(("head",), ()).first == {"head": None}


def test_differences_are_reported_for_names_that_both_tables_have():
    other = UpdateOrder(("head", "gate", "other"), ((True, True, True), (True, True, True)))
    assert ZERO.differing(other) == ("gate",)
    assert ZERO.differing(ZERO) == ()


def test_a_row_of_another_length_is_refused():
    with pytest.raises(ValueError, match="a row of 1 marks for 2 names"):
        UpdateOrder(("a", "b"), ((True,),))
