"""What counts as an update, and what else moves weights, in loops that nobody foresaw."""

import json
import warnings

import pytest
import torch

import adaln
from adaln.analysis.groups import Group
from adaln.analysis.optimizer_steps import steps_behind
from adaln.analysis.recorder import read_recording
from adaln.analysis.watch_handle import TrainingWarning
from adaln.analysis.watched_weights import WatchedWeights
from adaln.conditioning import find_sites, initialise
from adaln.models import DiTConfig, build
from adaln.rng import generator
from helpers.networks import DIGITS


def network():
    net = build(DiTConfig(16, 2, 2, 4), DIGITS, generator("steps"))
    initialise(net, "adaln-gaussian")
    return net


def backward(net, number, scale=1.0):
    for i, parameter in enumerate(net.parameters()):
        parameter.grad = scale * torch.randn(parameter.shape, generator=generator("steps", number, i))


def recorded(folder, name="gate"):
    found = read_recording(folder / "analysis" / "roles.jsonl")
    return {record.step: record for record in found if record.group == Group(name)}


def lines(folder):
    return (folder / "analysis" / "roles.jsonl").read_text()


class Scaling(torch.optim.SGD):
    """One that takes scale and verdict of a `GradScaler`, as fused ones do, and leaves the gradients scaled."""

    _step_supports_amp_scaling = True

    def step(self):
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None and not self.found_inf:
                    parameter.data.add_(parameter.grad / self.grad_scale, alpha=-group["lr"])


@pytest.mark.parametrize("make", [lambda p: Scaling(p, lr=1e-2), lambda p: torch.optim.SGD(p, lr=1e-2, fused=True)])
def test_steps_that_a_scaler_skips_on_the_device_are_no_updates(tmp_path, make, monkeypatch):
    folders = {}
    for name in ("plain", "scaled"):
        net, folders[name] = network(), tmp_path / name
        optimizer = torch.optim.SGD(net.parameters(), lr=1e-2) if name == "plain" else make(net.parameters())
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, enabled=name == "scaled")
        handle = adaln.watch(net, optimizer, to=folders[name], every=1 if name == "plain" else (0, 1, 2, 3))
        for number in range(6):
            if number in (1, 4):
                if name == "scaled":
                    backward(net, number, float("inf"))
                    scaler.scale(torch.zeros(()))
                    scaler.step(optimizer)
                    scaler.update(1024.0)
                    handle.log(-1.0)
                continue
            backward(net, number, 1024.0 if name == "scaled" else 1.0)
            scaler.scale(torch.zeros(()))
            scaler.step(optimizer)
            scaler.update(1024.0 if name == "scaled" else None)
            handle.log(float(number))
        assert handle.updates == 4
        handle.close()
    plain, scaled = (recorded(folders[name]) for name in ("plain", "scaled"))
    assert tuple(scaled) == (0, 1, 2, 3, 4)  # the last at the end
    for step in (1, 2, 3):
        assert scaled[step].gradient_norm == pytest.approx(plain[step].gradient_norm)
        assert scaled[step].update_ratio == pytest.approx(plain[step].update_ratio, rel=1e-4)
    rows = map(json.loads, (folders["scaled"] / "metrics.jsonl").read_text().splitlines())
    assert [(row["step"], row["loss"]) for row in rows] == [(1, -0.5), (2, 2), (3, 1), (4, 5)], (
        "with it those of steps skipped after it"
    )


def test_between_recorded_steps_nothing_waits_for_what_was_skipped(tmp_path, monkeypatch):
    net = network()
    optimizer = Scaling(net.parameters(), lr=1e-2)
    handle = adaln.watch(net, optimizer, to=tmp_path / "w", every=1000)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    asked = []
    monkeypatch.setattr(torch.Tensor, "__int__", lambda tensor: asked.append(tensor) or tensor.item())
    for number in range(10):
        backward(net, number)
        scaler.scale(torch.zeros(()))
        scaler.step(optimizer)
        scaler.update(2.0)
        handle.log(torch.zeros(()))
    assert not asked
    assert handle.updates == 10
    assert len(asked) == 1


def halves(net):
    """Two optimisers, of which the first has the matrices of the modulation and the second its biases."""
    biases = {site.bias for site in find_sites(net)}
    others, those = [], []
    for name, parameter in net.named_parameters():
        (those if name in biases else others).append(parameter)
    return torch.optim.SGD(others, lr=1e-2), torch.optim.SGD(those, lr=1e-2)


def test_several_optimisers_that_share_the_modulation_make_one_update(tmp_path):
    for name in ("one", "two", "turned"):
        net = network()
        optimizers = [torch.optim.SGD(net.parameters(), lr=1e-2)] if name == "one" else [*halves(net)]
        handle = adaln.watch(net, optimizers[::-1] if name == "turned" else optimizers, to=tmp_path / name, every=1)
        for number in range(3):
            backward(net, number)
            for optimizer in optimizers:
                optimizer.step()
        assert handle.updates == 3
    assert lines(tmp_path / "one") == lines(tmp_path / "two") == lines(tmp_path / "turned")


def test_where_one_steps_more_often_an_update_ends_with_its_next_step(tmp_path):
    net = network()
    often, seldom = halves(net)
    handle = adaln.watch(net, [often, seldom], to=tmp_path / "w", every=1)
    before = {}
    for number in range(4):
        backward(net, number)
        before[number] = [p.detach().clone() for group in often.param_groups for p in group["params"]]
        often.step()
        if number % 2:
            seldom.step()
    assert handle.updates == 4
    found = recorded(tmp_path / "w")
    assert tuple(found) == (0, 1, 2, 3, 4)
    assert [found[step].gradient_norm is None for step in (1, 2, 3, 4)] == [True, False, True, False]
    assert all(found[step].moved == 1.0 for step in (1, 2, 3, 4))


def test_a_step_that_one_of_several_skips_leaves_the_others_in_time(tmp_path):
    net = network()
    matrices, others = halves(net)
    handle = adaln.watch(net, [matrices, others], to=tmp_path / "w", every=1)
    for number in range(4):
        backward(net, number)
        if number != 1:
            matrices.step()
        others.step()
    handle.close()
    found = recorded(tmp_path / "w", "gate")
    assert (tuple(found), handle.updates) == ((0, 1, 2, 3, 4), 4)
    assert [found[step].gradient_norm is None for step in (1, 2, 3, 4)] == [False, True, False, False]
    assert [found[step].moved for step in (1, 2, 3, 4)] == [1.0, 0.0, 1.0, 1.0]


def test_an_optimiser_for_each_parameter_makes_one_update(tmp_path):
    net = network()
    optimizers = [torch.optim.SGD([parameter], lr=1e-2) for parameter in net.parameters()]
    handle = adaln.watch(net, optimizers, to=tmp_path / "w", every=1)
    for number in range(2):
        backward(net, number)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
    assert handle.updates == 2 and tuple(recorded(tmp_path / "w")) == (0, 1, 2)


@pytest.mark.slow
def test_a_compiled_step_is_counted_with_no_more_breaks_than_it_has(tmp_path):
    breaks = torch._dynamo.utils.counters["graph_break"]
    for name in ("plain", "compiled", "unwatched"):
        torch._dynamo.reset()
        breaks.clear()
        net = network()
        optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
        if name != "unwatched":
            handle = adaln.watch(net, optimizer, to=tmp_path / name, every=1)
        step = optimizer.step if name == "plain" else torch.compile(lambda step=optimizer.step: step(), backend="eager")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for number in range(3):
                backward(net, number)
                step()
        assert name == "unwatched" or handle.updates == 3
        if name == "compiled":
            watched = sum(breaks.values())
    unwatched = sum(breaks.values())
    breaks.clear()
    assert watched <= unwatched
    plain, compiled = (recorded(tmp_path / name) for name in ("plain", "compiled"))
    assert tuple(plain) == tuple(compiled)
    for step in (1, 2, 3):
        assert plain[step].gradient_norm == compiled[step].gradient_norm
        assert plain[step].update_ratio == pytest.approx(compiled[step].update_ratio, rel=1e-4)


@pytest.mark.slow
def test_step_and_log_are_left_as_they_are_in_a_compiled_step(tmp_path):
    breaks = torch._dynamo.utils.counters["graph_break"]
    torch._dynamo.reset()
    net = network()
    handle = adaln.watch(net, to=tmp_path / "w", every=1)

    def step(rate):
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.sub_(rate)
        handle.step(rate)

    for number in range(3):
        torch.compile(step, backend="eager")(torch.tensor(1e-3 * (number + 1)))
    handle.close()
    assert sum(breaks.values()) == 1
    breaks.clear()
    assert tuple(recorded(tmp_path / "w")) == (0, 1, 2, 3)
    rows = map(json.loads, (tmp_path / "w" / "metrics.jsonl").read_text().splitlines())
    assert [row["loss"] for row in rows] == pytest.approx([1e-3, 2e-3, 3e-3])


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("to_none", [False, True])
def test_step_said_twice_counts_once(tmp_path, fused, to_none):
    net = network()
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-2, fused=fused)
    handle = adaln.watch(net, to=tmp_path / "w", every=1)
    match = "called again after step 1, with no update between: it counts once"
    with pytest.warns(TrainingWarning, match=match) as said:
        for _ in range(3):
            sum(parameter.square().sum() for parameter in net.parameters()).backward()
            optimizer.step()
            handle.step()
            handle.step()
            optimizer.zero_grad(set_to_none=to_none)
    assert handle.updates == 3 and len(said) == 1
    assert tuple(recorded(tmp_path / "w")) == (0, 1, 2, 3)


def test_steps_are_believed_where_nothing_shows_that_weights_change(tmp_path):
    net = network()
    backward(net, 0)
    handle = adaln.watch(net, to=tmp_path / "w", every=1)
    for _ in range(3):
        handle.step()
    assert handle.updates == 3


def said(folder, train, net, optimizer, **settings):
    """What is warned of in a training, and the handle."""
    handle = adaln.watch(net, optimizer, to=folder, **{"every": 1} | settings)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        train(handle)
        handle.close()
    assert not any("\n" in str(one.message) for one in found)
    return [str(one.message) for one in found], handle


def sgd(net, lr=1e-2):
    return torch.optim.SGD(net.parameters(), lr=lr)


def test_an_optimiser_that_another_one_replaced_is_named(tmp_path):
    for name, updates, logs in ("short", 2, False), ("first", 4, True), ("later", 33, True):
        net = network()
        given = sgd(net)

        def train(handle, net=net, given=given, updates=updates, name=name, logs=logs):
            if name == "later":
                backward(net, 0)
                given.step()
            other = sgd(net)
            for number in range(updates):
                backward(net, number)
                other.step()
                if logs:
                    handle.log(1.0)

        found, _ = said(tmp_path / name, train, net, given)
        assert len(found) == 1 and "not by steps of the optimiser that watch was given" in found[0], (name, found)


def test_many_losses_of_one_update_are_no_fault(tmp_path):
    net = network()
    optimizer = sgd(net)

    def train(handle):
        for number in range(2):
            backward(net, number)
            for _ in range(70):
                handle.log(1.0)
            optimizer.step()

    assert said(tmp_path / "w", train, net, optimizer)[0] == []


@pytest.mark.parametrize("renewed", [True, False])
def test_parameters_that_were_replaced_are_followed_and_said(tmp_path, renewed):
    net = network()

    def train(handle):
        net.load_state_dict({name: tensor * 2 for name, tensor in net.state_dict().items()}, assign=True)
        for number in range(2):
            backward(net, number)
            (sgd(net, lr=1e-6) if renewed else optimizer).step()
            if renewed:
                handle.step()

    optimizer = None if renewed else sgd(net, lr=1e-6)
    found, _ = said(tmp_path / "w", train, net, optimizer)
    assert len(found) == 1 and "the network has other parameters than before" in found[0]
    assert ("the optimiser that watch was given holds the old ones" in found[0]) is not renewed
    record = recorded(tmp_path / "w")[2]
    assert record.moments.std == pytest.approx(2 * recorded(tmp_path / "w")[0].moments.std, rel=0.1)
    assert record.moved == float(renewed)


def copied(net):
    for parameter in net.parameters():
        parameter.data.copy_(parameter.detach() * 2)


def put(net):
    for parameter in net.parameters():
        parameter.data = parameter.detach() * 2


@pytest.mark.parametrize(
    "load",
    [
        lambda net: net.load_state_dict({name: tensor * 2 for name, tensor in net.state_dict().items()}),
        copied,  # as an average of weights is
        put,
    ],
)
def test_weights_loaded_between_two_updates_are_said_and_are_no_update(tmp_path, load):
    net = network()
    optimizer = sgd(net, lr=1e-6)

    def train(handle):
        load(net)
        backward(net, 0)
        optimizer.step()

    found, _ = said(tmp_path / "w", train, net, optimizer)
    assert len(found) == 1 and "weights changed between two updates (load_state_dict, say)" in found[0]
    assert recorded(tmp_path / "w")[1].update_ratio < 1e-2


def test_away_from_recorded_steps_no_weight_is_read(tmp_path, monkeypatch):
    net = network()
    optimizer = sgd(net)
    handle = adaln.watch(net, optimizer, to=tmp_path / "w", every=10)
    read = []
    monkeypatch.setattr(
        WatchedWeights, "keep", lambda weights, step, keep=WatchedWeights.keep: read.append(step) or keep(weights, step)
    )
    for number in range(20):
        backward(net, number)
        optimizer.step()
    handle.close()
    assert sorted(set(read)) == [8, 9, 10, 18, 19, 20]


def test_weights_that_are_not_finite_have_not_moved_by_that(tmp_path):
    net = network()
    optimizer = sgd(net)

    def train(handle):
        for number in range(3):
            backward(net, number, float("nan"))
            optimizer.step()

    assert not any("changed between" in text for text in said(tmp_path / "w", train, net, optimizer)[0])


@pytest.mark.parametrize("by_hand", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_another_type_of_the_weights_is_followed_and_said_once(tmp_path, dtype, by_hand):
    net = network()
    optimizer = sgd(net)

    def train(handle):
        for number in range(4):
            if number == 2:
                net.to(dtype)
            for parameter in net.parameters():
                parameter.grad = torch.ones_like(parameter)
            optimizer.step()
            if by_hand:
                handle.step()

    found, _ = said(tmp_path / "w", train, net, None if by_hand else optimizer)
    about = [text for text in found if "weights are" in text or "nothing is recorded" in text]
    assert len(about) == 1 and f"weights are {dtype} on cpu now, and were torch.float32 on cpu" in about[0]
    records = recorded(tmp_path / "w")
    assert tuple(records) == (0, 1, 2, 3, 4)
    assert (records[3].update_ratio is None) is by_hand and records[4].update_ratio > 0


def test_a_state_that_tells_of_no_number_of_steps_tells_of_none():
    optimizer = sgd(network())
    first, second, *_ = optimizer.param_groups[0]["params"]
    for odd in (None, "x", torch.tensor([1, 2]), float("nan"), torch.tensor(float("inf"))):
        optimizer.state["k"], optimizer.state[first]["step"] = 3, odd
        assert steps_behind(optimizer) == 0
    optimizer.state[second]["step"] = torch.tensor(7.0)
    assert steps_behind(optimizer) == 7


def test_weights_that_were_swapped_and_put_back_are_no_fault(tmp_path):
    net = network()
    optimizer = sgd(net)

    def train(handle):
        for number in range(3):
            backward(net, number)
            optimizer.step()
            kept = {name: tensor.clone() for name, tensor in net.state_dict().items()}
            net.load_state_dict({name: tensor * 0 for name, tensor in kept.items()})
            net.load_state_dict(kept)

    assert said(tmp_path / "w", train, net, optimizer)[0] == []


def test_a_state_of_the_optimiser_that_is_loaded_later_is_said(tmp_path):
    net, trained = network(), network()
    optimizer, other = (torch.optim.AdamW(one.parameters(), lr=1e-3) for one in (net, trained))
    for number in range(3):
        backward(trained, number)
        other.step()
    found, _ = said(tmp_path / "w", lambda handle: optimizer.load_state_dict(other.state_dict()), net, optimizer)
    assert len(found) == 1 and "tells of 3 updates; steps go on from 0: call watch after it" in found[0]
    found, _ = said(tmp_path / "v", lambda handle: optimizer.load_state_dict(other.state_dict()), net, optimizer)
    assert found == []  # it knew of them


class Reusing(torch.optim.SGD):
    """One that writes into the gradients, as schedule-free ones and Muon's first do."""

    def step(self):
        for parameter in self.param_groups[0]["params"]:
            parameter.data.add_(parameter.grad, alpha=-self.param_groups[0]["lr"])
            parameter.grad.mul_(100.0)


@pytest.mark.parametrize("by_closure", [False, True])
def test_gradients_are_those_that_the_update_used(tmp_path, by_closure):
    norms = {}
    for kind in (torch.optim.SGD, Reusing if not by_closure else torch.optim.SGD):
        net = network()
        optimizer = kind(net.parameters(), lr=1e-2)
        with adaln.watch(net, optimizer, to=tmp_path / kind.__name__ / str(len(norms)), every=1) as handle:
            for number in range(3):
                if by_closure and norms:
                    optimizer.step(lambda number=number, net=net: backward(net, number))  # those before are the last's
                else:
                    backward(net, number)
                    optimizer.step()
        norms[len(norms)] = [record.gradient_norm for record in recorded(handle.folder).values()]
    assert norms[0] == norms[1] and len(set(norms[0])) == len(norms[0]) == 4
