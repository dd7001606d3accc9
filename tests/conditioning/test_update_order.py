import copy

import pytest
import torch

from adaln.conditioning import SCHEMES, Role, find_sites, holding, initialise, measure_order, order_to_hold, sgd
from adaln.conditioning.held_rows import OrderPart
from adaln.conditioning.update_order import adamw, order_parts
from adaln.rng import generator


def moved(order, model):
    """{what: iteration (1-based)} for the twelve weights of Table 1, from parts of a DiT."""
    tensors = dict(model.named_parameters())
    found = {}
    for site in find_sites(tensors):
        key = ("final" if site.branch == "final" else "block", site.role)
        found.setdefault(key, set()).add(order[OrderPart(site.weight, site.rows.start, site.rows.stop)])
    for part, opens in order.items():
        if part.tensor.startswith("final_layer.linear"):
            found.setdefault("head", set()).add(opens)
        elif part.tensor.startswith("x_embedder"):
            found.setdefault("patch", set()).add(opens)
        elif part.tensor.startswith("blocks") and (".attn." in part.tensor or ".mlp." in part.tensor):
            found.setdefault("backbone", set()).add(opens)
        elif "t_embedder" in part.tensor or "y_embedder" in part.tensor:
            found.setdefault("embedders", set()).add(opens)
    return {key: {None if i is None else i + 1 for i in iterations} for key, iterations in found.items()}


@pytest.mark.parametrize("optimizer", [sgd, adamw])
def test_adaln_zero_on_a_real_dit_moves_in_the_order_of_table_1(model, noise_loss, optimizer):
    order = moved(measure_order(model, SCHEMES["adaln-zero"], noise_loss, optimizer=optimizer), model)
    assert order["head"] == {1}
    assert order["patch"] == {2}
    assert order["final", Role.SCALE] == order["final", Role.SHIFT] == {2}
    assert order["block", Role.GATE] == {2}
    assert order["block", Role.SCALE] == order["block", Role.SHIFT] == {3}
    assert order["backbone"] == {3}
    assert order["embedders"] == {3}


@pytest.mark.parametrize("name", ["adaln", "adaln-step1", "adaln-gaussian"])
def test_without_a_zero_gate_everything_moves_from_iteration_2(model, noise_loss, name):
    order = moved(measure_order(model, SCHEMES[name], noise_loss), model)
    assert order.pop("head") == {1}
    gates = order.pop(("block", Role.GATE))
    assert gates == ({None} if name == "adaln" else {2})
    late = {key: when for key, when in order.items() if when != {2}}
    # zero scale and shift rows pass no gradient to the embedders unless the gate does
    assert late == ({"embedders": {3}} if name == "adaln" else {})


def test_mix_replays_the_measured_order_of_adaln_zero(model, noise_loss):
    held = order_to_hold(model, SCHEMES["adaln-mix"], noise_loss)
    measured = measure_order(model, SCHEMES["adaln-zero"], noise_loss)
    assert held == {part: opens for part, opens in measured.items() if opens}


def test_held_rows_stay_bit_identical_until_they_open(model, noise_loss):
    scheme = SCHEMES["adaln-mix"]
    held = order_to_hold(model, scheme, noise_loss)
    initialise(model, scheme, generator("scheme", 0))
    hook, optimizer = holding(held), adamw(list(model.parameters()))
    start = {name: p.detach().clone() for name, p in model.named_parameters()}
    for step in range(4):
        optimizer.zero_grad()
        noise_loss(model, step).backward()
        hook(step, model)
        optimizer.step()
        now = dict(model.named_parameters())
        same = {part: torch.equal(part.of(now), part.of(start)) for part in order_parts(start)}
        for part, is_same in same.items():
            assert is_same == (step < held.get(part, 0)), (step, part)


def test_never_opening_rows_stay_bit_identical(model, noise_loss):
    scheme = SCHEMES["adaln"]
    initialise(model, scheme, generator("scheme", 0))
    hook, optimizer = holding(order_to_hold(model, scheme, noise_loss)), adamw(list(model.parameters()))
    for step in range(5):
        optimizer.zero_grad()
        noise_loss(model, step).backward()
        hook(step, model)
        optimizer.step()
    tensors = dict(model.named_parameters())
    for site in find_sites(tensors):
        if site.role is Role.GATE:
            assert not tensors[site.weight][site.rows].any()
            assert torch.equal(tensors[site.bias][site.rows], torch.ones_like(tensors[site.bias][site.rows]))


def test_measuring_leaves_the_model_and_its_gradients_alone(model, noise_loss):
    before = copy.deepcopy(model.state_dict())
    measure_order(model, SCHEMES["adaln-zero"], noise_loss)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_parts_cover_every_row_once(any_model):
    tensors = dict(any_model.named_parameters())
    rows = {name: [] for name in tensors}
    for part in order_parts(tensors):
        rows[part.tensor] += range(part.start, part.stop)
    assert all(
        found == list(range(tensors[name].shape[0] if tensors[name].ndim else 1)) for name, found in rows.items()
    )


@pytest.mark.slow
def test_every_family_has_a_measurable_order(any_model, noise_loss):
    order = measure_order(any_model, SCHEMES["adaln-zero"], noise_loss)
    head = [
        opens for part, opens in order.items() if part.tensor.startswith("final_layer") and "adaLN" not in part.tensor
    ]
    assert set(head) == {0}
    assert all(opens is not None for part, opens in order.items() if "adaLN" in part.tensor or "table" in part.tensor)
