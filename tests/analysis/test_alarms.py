"""Warnings of a training: when each rule warns, and when not."""

import json
import warnings
from dataclasses import replace

import pytest
import torch

import adaln
from adaln.analysis.alarms import doublings
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
