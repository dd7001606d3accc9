"""Warnings of a training: when each rule warns, and when not."""

import json
import warnings
from dataclasses import replace

import pytest
import torch

import adaln
from adaln.analysis.alarms import Seen, blown_up, doublings
from adaln.analysis.groups import Group
from adaln.analysis.losses import LossLevels
from adaln.analysis.watch_handle import TrainingWarning
from adaln.conditioning import find_sites, initialise
from adaln.models import DiTConfig, build
from adaln.rng import generator
from helpers.networks import DIGITS

CONFIG = DiTConfig(16, 2, 2, 4)


def network(scheme, **changes):
    net = build(replace(CONFIG, **changes), DIGITS, generator("alarms"))
    initialise(net, scheme)
    return net


def rules(net, folder, change=lambda parameters, step: None, steps=range(100, 190, 10)):
    """Rule and role of every warning of a training in which nothing but `change` moves the weights."""
    handle = adaln.watch(net, to=folder, every=10, step=89)
    parameters = dict(net.named_parameters())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TrainingWarning)
        for step in range(90, max(steps) + 1):
            if step in steps:
                with torch.no_grad():
                    change(parameters, step)
            handle.step()
    file = folder / "alarms.jsonl"
    return (
        {(row["rule"], row["role"]) for row in map(json.loads, file.read_text().splitlines())}
        if file.exists()
        else set()
    )


@pytest.mark.parametrize(
    ("scheme", "changes", "is_shut"),
    [
        ("adaln-zero", {}, True),
        ("adaln", {}, False),  # a gate of 0 c + 1
        ("adaln-zero", {"gate": "tanh"}, True),
        ("rezero", {"gate": "static"}, True),
        ("layerscale", {"gate": "static"}, False),
        ("adaln-zero", {"modulation": "shared"}, True),
        ("table-normal", {"modulation": "shared"}, False),  # the matrix is zero, the tables are not
    ],
)
def test_a_gate_is_shut_where_all_that_it_adds_up_is_zero(tmp_path, scheme, changes, is_shut):
    found = rules(network(scheme, **changes), tmp_path / "w", steps=[100])
    assert ("shut" in {rule for rule, _ in found}) is is_shut


def test_a_gate_that_lets_half_through_at_zero_is_not_shut(tmp_path):
    net = network("adaln-gaussian", gate="sigmoid")
    found = rules(net, tmp_path / "w", lambda parameters, _: [p.zero_() for p in parameters.values()], steps=[100])
    assert found and "shut" not in {rule for rule, _ in found}


def biases(net, role):
    return [(site.bias, site.rows) for site in find_sites(net) if site.role.name == role]


def growing(found):
    return {role for rule, role in found if rule == "growing"}


def test_a_growing_bias_of_scales_is_warned_of_and_other_biases_are_not(tmp_path):
    for role, expected in ("SCALE", {"scale", "final scale"}), ("SHIFT", set()):
        net = network("adaln-gaussian")

        def change(parameters, step, net=net, role=role):
            for name, rows in biases(net, role):
                parameters[name][rows] = 0.1 * 2.2 ** ((step - 90) / 10)

        assert growing(rules(net, tmp_path / role, change)) == expected


def test_a_scale_that_stays_near_one_does_not_grow_however_small_its_weights_began(tmp_path):
    net = network("adaln-gaussian")

    def change(parameters, step):
        for name, parameter in parameters.items():
            if name.endswith("adaLN_modulation.1.weight"):
                parameter.mul_(1.9)

    assert growing(rules(net, tmp_path / "few", change, steps=range(100, 130, 10))) == set()
    assert "scale" in growing(rules(net, tmp_path / "many", change, steps=range(100, 220, 10)))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], 0),
        ([(100, 1.0)], 0),
        ([(100, 1.0), (110, 2.1), (120, 4.3), (130, 9.0)], 3),
        ([(100, 1.0), (110, 1.5), (120, 2.25), (130, 3.4), (140, 5.0), (150, 7.6), (160, 11.4), (170, 17.0)], 3),
        ([(100, 1.0), (200, 2.0), (400, 4.0), (800, 8.0)], 0),  # as the number of updates
        ([(200, 1.0), (500, 2.4), (1000, 4.9), (2000, 9.7)], 1),
        ([(200, 1.0), (500, 3.0), (1000, 6.9), (2000, 15.0)], 3),
        ([(100, 8.0), (110, 1.0), (120, 2.1)], 1),
    ],
)
def test_doublings_count_what_outruns_the_number_of_updates(values, expected):
    assert doublings(values) == expected


@pytest.mark.parametrize(("begins", "ends", "warned"), [(159, 161, set()), (159, 291, {"gate"})])
def test_gates_that_open_late_do_not_leap_at_once(tmp_path, begins, ends, warned):
    def change(parameters, step):
        for name, rows in ((site.weight, site.rows) for site in find_sites(net) if site.role.name == "GATE"):
            parameters[name][rows].add_(1e-3).mul_(3 if step == 290 else 1)

    net = network("adaln-zero")
    found = rules(net, tmp_path / "w", change, range(begins, ends))
    assert {role for rule, role in found if rule == "leaping"} == warned


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_bias_that_is_no_longer_finite_is_named_first(tmp_path, value):
    net = network("adaln")
    handle = adaln.watch(net, to=tmp_path / "w", every=1)
    name, rows = biases(net, "SCALE")[2]
    with torch.no_grad():
        dict(net.named_parameters())[name][rows.start + 3] = value
    with pytest.warns(TrainingWarning, match=f"step 1: {name} is not finite; go back"):
        handle.step()


ROLES = {"gate", "scale", "shift"}


@pytest.mark.parametrize(
    ("ends", "warned"),
    [("weight", ROLES), ("bias", {f"{role} bias" for role in ROLES}), (("weight", "bias"), ROLES)],
)
def test_what_holds_of_matrices_and_their_biases_is_said_once(tmp_path, ends, warned):
    net = network("adaln-gaussian")
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.fill_(1.0)

    def change(parameters, step):
        for name, parameter in parameters.items():
            if name.startswith("blocks") and name.endswith(ends):
                parameter.mul_(2)

    found = rules(net, tmp_path / "w", change, [100])
    assert {role for rule, role in found if rule == "leaping"} == warned


def test_a_frozen_bias_silences_no_rule_and_is_no_fault_itself(tmp_path):
    net = network("adaln-gaussian")
    for name, parameter in net.named_parameters():
        parameter.requires_grad_(not name.endswith("bias"))
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=1e-30)
    handle = adaln.watch(net, optimizer, to=tmp_path / "w", every=100, step=97)
    with pytest.warns(TrainingWarning, match="though it has a gradient") as said:
        for _ in range(3):
            for parameter in net.parameters():
                parameter.grad = torch.ones_like(parameter) if parameter.requires_grad else None
            optimizer.step()
    handle.close()
    assert said and not any("bias" in str(one.message) for one in said)


def trained(folder, rate, *, scheme="adaln-gaussian", by_hand=False, reach=lambda name, step, gradient: None):
    """Rules that warn of updates of SGD at the rate of each step, where `reach` changes a constant gradient."""
    net = network(scheme)
    optimizer = torch.optim.SGD(net.parameters(), lr=rate(0))
    handle = adaln.watch(net, None if by_hand else optimizer, to=folder, every=10, step=80)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TrainingWarning)
        for step in range(80, 130):
            for name, parameter in net.named_parameters():
                parameter.grad = torch.full_like(parameter, 1e-2)
                reach(name, step, parameter.grad)
            optimizer.param_groups[0]["lr"] = rate(step)
            optimizer.step()
            if by_hand:
                handle.step()
    handle.close()
    file = folder / "alarms.jsonl"
    return {json.loads(row)["rule"] for row in file.read_text().splitlines()} if file.exists() else set()


@pytest.mark.parametrize("by_hand", [False, True])
def test_a_schedule_that_ends_at_zero_is_no_fault(tmp_path, by_hand):
    assert trained(tmp_path / "a", lambda step: 1e-4 if step < 105 else 1e-9, by_hand=by_hand) == set()
    assert trained(tmp_path / "b", lambda step: 1e-12, by_hand=by_hand) == {"still"}


def test_weights_that_stop_at_their_learning_rate_are_still(tmp_path):
    found = trained(
        tmp_path / "w", lambda _: 1e-4, reach=lambda _, step, gradient: gradient.mul_(1e-9 if step > 110 else 1)
    )
    assert found == {"still"}


def test_a_gate_that_the_network_makes_no_use_of_is_no_fault_where_others_open(tmp_path):
    rows = [site.rows for site in find_sites(network("adaln-zero")) if site.role.name == "GATE"][-1]

    def unused(name, step, gradient):
        if name.startswith("blocks.1.adaLN"):
            gradient[rows] = 0

    def frozen(name, step, gradient):
        gradient.zero_()

    assert trained(tmp_path / "a", lambda _: 1e-4, scheme="adaln-zero", reach=unused) == set()
    assert trained(tmp_path / "b", lambda _: 1e-4, scheme="adaln-zero", reach=frozen) == {"shut"}


def test_a_gate_that_an_update_leaves_out_is_shut_though_others_open(tmp_path):
    net = network("adaln-zero")
    optimizer = torch.optim.SGD(net.blocks[0].parameters(), lr=1e-4)
    handle = adaln.watch(net, optimizer, to=tmp_path / "w", every=10, step=90)
    with pytest.warns(TrainingWarning, match="gate of blocks.1: every entry is still 0"):
        for _ in range(10):
            for parameter in net.parameters():
                parameter.grad = torch.ones_like(parameter)
            optimizer.step()
    handle.close()


def test_weights_that_blow_up_are_warned_of_whatever_their_updates_are(tmp_path):
    """AdamW at a rate a thousand times too high moves every entry alike: weights grow, and ratios fall."""
    net = network("adaln-zero")
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
    handle = adaln.watch(net, optimizer, to=tmp_path / "w", step=97)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for step in range(97, 160):
            optimizer.param_groups[0]["lr"] = 1.0 if step >= 140 else 1e-3
            for parameter in net.parameters():
                parameter.grad = torch.ones_like(parameter)
            optimizer.step()
    handle.close()
    assert any("gate of blocks.0 and 1 more blocks: its rms over channels is" in str(one.message) for one in said)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([], False),
        ([(100, 50.0)], False),  # a released network's
        ([(0, 50.0), (100, 60.0), (10_000, 90.0)], False),
        ([(0, 0.0), (100, 9.0)], False),
        ([(0, 0.0), (100, 11.0)], True),
        ([(0, 0.0), (100, 0.1), (1000, 11.0)], False),  # as the number of updates
        ([(0, 0.0), (900, 0.1), (1000, 12.0)], True),
        ([(0, 0.0), (10, 11.0)], False),
    ],
)
def test_what_blew_up_outgrew_ten_times_what_it_was_and_the_number_of_updates(sizes, expected):
    step = sizes[-1][0] if sizes else 100
    seen = Seen(step, Group("gate"), 0.1, 1.0, torch.float32, True, False, False, (), sizes, step)
    assert blown_up(seen) is expected


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (1.0, 1.0, False),
        (1.0, 2.9, False),
        (1.0, 100.0, True),
        (-1.0, 100.0, False),
        (0.0, 100.0, False),
    ],
)
def test_a_loss_rises_where_half_of_it_is_above_three_times_what_it_was(before, after, expected):
    levels = LossLevels()
    assert not any(levels.are_risen(before + 0.01 * (i % 5) * bool(before)) for i in range(64))
    assert any(levels.are_risen(after) for _ in range(32)) is expected


def test_losses_of_one_image_at_any_timestep_do_not_rise_nor_does_a_leap_of_a_tiny_one():
    for seed in range(3):
        wide = torch.randn(20_000, generator=generator("losses", seed)).mul(1.8).exp().tolist()
        levels = LossLevels()
        assert sum(map(levels.are_risen, wide)) == 0
    levels = LossLevels()
    assert sum(map(levels.are_risen, [1.0] * 64 + [1e-6] * 320 + [1e-3] * 64)) == 0


def test_a_loss_that_has_risen_is_said_once(tmp_path):
    net = network("adaln-gaussian")
    handle = adaln.watch(net, to=tmp_path / "w")
    with pytest.warns(TrainingWarning, match="the loss is 9, half of the last 32 above three times") as said:
        for step in range(200):
            handle.updates += 1
            handle.log(1.0 if step < 100 else 9.0)
        handle.close()
    assert len(said) == 1
