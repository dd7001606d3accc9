"""What a scheme holds stays where it started, whoever trains."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

import adaln
from adaln.conditioning import SCHEMES, Role, Start, find_sites, holding, order_to_hold
from adaln.conditioning.distributions import Normal
from adaln.conditioning.held_rows import Hold, OrderPart, refuse_weight_decay
from adaln.conditioning.update_order import order_parts
from adaln.rng import generator
from helpers.foreign import foreign

OPENS_AT_3 = replace(SCHEMES["adaln-gaussian"], name="late", shift=Start(Normal(1e-3), opens=3))


def adamw(model, **options):
    return torch.optim.AdamW(model.parameters(), lr=1e-2, **{"weight_decay": 0.0, **options})


def learn(model, optimizer, loss, steps):
    for step in steps:
        optimizer.zero_grad()
        loss(model, step).backward()
        optimizer.step()


def moved(model, start):
    """The parts that are no more what they were."""
    now = {name: tensor.detach() for name, tensor in model.named_parameters()}
    return {part for part in order_parts(start) if not torch.equal(part.of(now), part.of(start))}


def values(model):
    return {name: tensor.detach().clone() for name, tensor in model.named_parameters()}


def shifts(model):
    sites = [site for site in find_sites(model) if site.role is Role.SHIFT and site.branch != "final"]
    return {OrderPart(name, site.rows.start, site.rows.stop) for site in sites for name in site.tensors()}


def test_a_loop_of_ones_own_learns_what_a_run_under_the_scheme_would(model, noise_loss):
    other = copy.deepcopy(model)
    hook = holding(order_to_hold(other, SCHEMES["adaln-mix"], noise_loss))
    started = adaln.initialise(model, "adaln-mix")
    adaln.initialise(other, "adaln-mix")
    optimizer, of_other = adamw(model), adamw(other)
    started.hold(optimizer, started.order(noise_loss))
    for step in range(5):
        of_other.zero_grad()
        noise_loss(other, step).backward()
        hook(step, other)
        of_other.step()
    learn(model, optimizer, noise_loss, range(5))
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(model.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.RMSprop])
def test_rows_move_from_the_step_at_which_they_open(model, noise_loss, kind):
    started = adaln.initialise(model, OPENS_AT_3)
    optimizer = kind(model.parameters(), lr=1e-2, weight_decay=0.0)
    started.hold(optimizer)
    start = values(model)
    learn(model, optimizer, noise_loss, range(3))
    assert not moved(model, start) & shifts(model)
    learn(model, optimizer, noise_loss, range(3, 4))
    assert shifts(model) <= moved(model, start)


def test_a_scheme_that_holds_for_ever_holds_in_a_foreign_network():
    model = foreign("SD3.5")
    started = adaln.initialise(model, "adaln")
    optimizer = adamw(model)
    started.hold(optimizer)
    for _ in range(3):
        for tensor in model.parameters():
            tensor.grad = torch.ones_like(tensor)
        optimizer.step()
    for gate in (site for site in started if site.role is Role.GATE):
        assert (model.get_parameter(gate.bias)[gate.rows] == 1).all()
        assert not model.get_parameter(gate.weight)[gate.rows].any()
    assert not (model.proj_out.weight == 0).any()


@pytest.mark.parametrize("by_name", [True, False])
def test_gradients_that_a_closure_makes_inside_the_step_are_held(model, noise_loss, by_name):
    started = adaln.initialise(model, "adaln")
    optimizer, start = adamw(model), values(model)
    started.hold(optimizer)

    def closure():
        optimizer.zero_grad()
        loss = noise_loss(model, 0)
        loss.backward()
        return loss

    loss = optimizer.step(closure=closure) if by_name else optimizer.step(closure)
    gates = {(name, site.rows.start) for site in started if site.role is Role.GATE for name in site.tensors()}
    has_moved = {(part.tensor, part.start) for part in moved(model, start)}
    assert loss > 0 and has_moved and not has_moved & gates


def test_a_resumed_optimizer_goes_on_counting(model, noise_loss):
    started = adaln.initialise(model, OPENS_AT_3)
    optimizer = adamw(model)
    started.hold(optimizer)
    learn(model, optimizer, noise_loss, range(2))
    saved = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
    again = adamw(model)
    adaln.initialise(model, OPENS_AT_3).hold(again)
    model.load_state_dict(saved[0])
    again.load_state_dict(saved[1])
    start = values(model)
    learn(model, again, noise_loss, [2])
    assert not moved(model, start) & shifts(model)
    learn(model, again, noise_loss, [3])
    assert shifts(model) <= moved(model, start)


def test_weight_decay_is_refused_where_rows_are_held(model, noise_loss):
    held = order_to_hold(model, SCHEMES["adaln"], noise_loss)
    with pytest.raises(ValueError, match=r"weight decay 0\.1 moves rows whose gradient is zero"):
        refuse_weight_decay(held, 0.1)
    refuse_weight_decay(held, 0.0)
    refuse_weight_decay({}, 0.1)


def test_weight_decay_is_refused_of_the_groups_that_hold_rows_and_of_no_others(model):
    started = adaln.initialise(model, "adaln")
    with pytest.raises(ValueError, match=r"weight decay 0\.1 moves rows"):
        started.hold(adamw(model, weight_decay=0.1))
    held = {name for site in started if site.role is Role.GATE for name in site.tensors()}
    groups = [
        {"params": [p for name, p in model.named_parameters() if (name in held) == is_held], "weight_decay": decay}
        for is_held, decay in ((True, 0.0), (False, 0.1))
    ]
    optimizer = torch.optim.AdamW(groups)
    started.hold(optimizer)
    optimizer.param_groups[0]["weight_decay"] = 0.1
    with pytest.raises(ValueError, match=r"weight decay 0\.1 moves rows"):
        optimizer.step()


def test_a_scheme_that_holds_nothing_leaves_the_optimizer_alone(model):
    optimizer = adamw(model, weight_decay=0.1)
    adaln.initialise(model, "adaln-gaussian").hold(optimizer)
    optimizer.step()
    assert set(optimizer.param_groups[0]) == set(adamw(model).param_groups[0])


class Wrapping(torch.optim.Optimizer):
    """An optimiser only by its class, as accelerate's."""

    def __init__(self, optimizer):
        self.optimizer = optimizer


def test_what_cannot_be_held_is_refused(model, noise_loss):
    started = adaln.initialise(model, "adaln-mix")
    with pytest.raises(ValueError, match=r"'adaln-zero', which a loss measures; expected started.hold"):
        started.hold(adamw(model))
    started = adaln.initialise(model, "adaln")
    optimizer = adamw(model)
    started.hold(optimizer)
    with pytest.raises(ValueError, match="holds rows of this network already"):
        started.hold(optimizer)
    with pytest.raises(ValueError, match="the optimiser moves none of the tensors that hold rows, such as 'blocks"):
        started.hold(adamw(nn.Linear(2, 2)))
    with pytest.raises(ValueError, match="Wrapping is no optimiser of torch; expected the one that it wraps"):
        started.hold(Wrapping(adamw(model)))
    model.blocks[0] = nn.ModuleDict({"inner": model.blocks[0]})
    with pytest.raises(ValueError, match=r"'blocks.0\S+' is no parameter of the network any more"):
        started.hold(adamw(model))


def test_a_start_says_that_somebody_must_hold_it(model):
    held = "; the scheme holds {}: started.hold(optimizer) keeps it, nothing else does"
    assert str(adaln.initialise(model, "adaln")).endswith(held.format("rows"))
    assert str(adaln.initialise(model, OPENS_AT_3)).endswith(held.format("rows"))
    assert str(adaln.initialise(model, "adaln-mix")).endswith(held.format("the update order of adaln-zero"))
    assert "hold" not in str(adaln.initialise(model, "adaln-zero"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.AdamW])
@pytest.mark.parametrize("opens", [1, 100, 1000])
def test_rows_that_open_late_take_the_steps_of_a_fresh_tensor_where_they_count_their_own_age(kind, opens):
    layer, fresh = nn.Linear(4, 3, bias=False), nn.Linear(4, 1, bias=False)
    nn.init.zeros_(layer.weight), nn.init.zeros_(fresh.weight)
    optimizer, of_fresh = (kind(one.parameters(), lr=1e-2, weight_decay=0.0) for one in (layer, fresh))
    hold = Hold({OrderPart("weight", 1, 2): opens}, layer, own_age=True)
    hold.register(optimizer)
    usual = nn.Linear(4, 3, bias=False)
    nn.init.zeros_(usual.weight)
    of_usual = kind(usual.parameters(), lr=1e-2, weight_decay=0.0)
    rng = generator("own age")
    for step in range(opens + 50):
        gradient = torch.randn(3, 4, generator=rng)
        layer.weight.grad, usual.weight.grad = gradient.clone(), gradient.clone()
        optimizer.step()
        of_usual.step()
        if step >= opens:
            assert torch.equal(layer.weight.grad, gradient)
            fresh.weight.grad = gradient[1:2]
            of_fresh.step()
    torch.testing.assert_close(layer.weight[1:2], fresh.weight, rtol=1e-4, atol=1e-6)
    assert torch.equal(layer.weight[[0, 2]], usual.weight[[0, 2]])


def test_only_adam_counts_the_age_of_rows(model):
    started = adaln.initialise(model, OPENS_AT_3)
    with pytest.raises(ValueError, match=r"own_age corrects the averages of Adam and AdamW .*, not of this SGD"):
        started.hold(torch.optim.SGD(model.parameters()), own_age=True)
    with pytest.raises(ValueError, match="no amsgrad"):
        started.hold(adamw(model, amsgrad=True), own_age=True)


@pytest.mark.parametrize("has_momentum", [True, False])
def test_an_optimiser_that_moves_rows_without_a_gradient_is_refused_at_its_first_step(model, noise_loss, has_momentum):
    optimizer = torch.optim.SGD(model.parameters(), 1e-2, momentum=0.9)
    if has_momentum:  # of steps before the rows were held
        learn(model, optimizer, noise_loss, range(2))
    else:
        optimizer = torch.optim.ASGD(model.parameters())
    adaln.initialise(model, "adaln").hold(optimizer)
    with pytest.raises(ValueError, match=rf"{type(optimizer).__name__} moves rows whose gradient is zero, as of '.*'"):
        learn(model, optimizer, noise_loss, range(1))
