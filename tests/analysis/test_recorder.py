import json
from math import sqrt

import pytest
import torch

from adaln.analysis.groups import Group
from adaln.analysis.recorder import LOG_SPACED_STEPS, Recorder, observe, read_recording, to_five_digits
from adaln.conditioning import SCHEMES, find_sites, initialise
from adaln.models import MODELS, build
from adaln.rng import generator
from adaln.types import Hook
from helpers.networks import DIGITS


def model(scheme: str = "adaln-gaussian") -> torch.nn.Module:
    net = build(MODELS["tiny"], DIGITS, generator("recorder test"))
    initialise(net, SCHEMES[scheme], generator("recorder test", "scheme"))
    return net


def with_gradients(net: torch.nn.Module) -> torch.nn.Module:
    rng = generator("recorder test", "gradients")
    for parameter in net.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=rng)
    return net


def test_a_recorder_is_a_hook_and_records_only_its_steps(tmp_path):
    recorder, net = Recorder(tmp_path / "new" / "roles.jsonl", steps=(0, 2)), model()
    assert isinstance(recorder, Hook)
    for step in range(4):
        recorder(step, net)
    assert sorted({record.step for record in read_recording(recorder.path)}) == [0, 2]
    assert tuple(sorted(set(LOG_SPACED_STEPS))) == LOG_SPACED_STEPS


def test_all_blocks_each_block_and_the_final_layer_are_recorded(tmp_path):
    net = model()
    records = {record.group: record for record in observe(0, dict(net.named_parameters()))}
    roles = ("gate", "scale", "shift")
    assert records.keys() == {
        *(Group(role) for role in roles),
        *(Group(role, f"blocks.{i}", i) for role in roles for i in range(4)),
        Group("final scale"),
        Group("final shift"),
    }
    parameters = dict(net.named_parameters())
    gates = [parameters[s.weight][s.rows] for s in find_sites(parameters) if s.role.name == "GATE"]
    whole = torch.cat(gates).detach().double()
    gate = records[Group("gate")]
    assert gate.moments.std == pytest.approx(float(whole.std(correction=0)), rel=1e-12)
    assert gate.histogram.elements == whole.numel()


def test_gradient_norms_are_those_of_the_rows_of_weights_and_biases():
    net = with_gradients(model())
    parameters = dict(net.named_parameters())
    records = {record.group: record for record in observe(7, parameters)}
    square = sum(
        float(parameters[name].grad[site.rows].double().square().sum())
        for site in find_sites(parameters)
        if site.role.name == "SHIFT" and site.branch != "final"
        for name in site.tensors()
    )
    assert records[Group("shift")].gradient_norm == pytest.approx(sqrt(square), rel=1e-12)


def test_missing_and_infinite_gradients_are_null_and_the_file_stays_strict_json(tmp_path):
    net = with_gradients(model())
    net.get_parameter("blocks.0.adaLN_modulation.1.weight").grad[0, 0] = torch.inf
    net.get_parameter("blocks.1.adaLN_modulation.1.bias").grad = None
    recorder = Recorder(tmp_path / "roles.jsonl")
    recorder(0, net)

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    json.loads(recorder.path.read_text(), parse_constant=refuse)
    norms = {record.group: record.gradient_norm for record in read_recording(recorder.path)}
    assert norms[Group("shift", "blocks.0", 0)] is None
    assert norms[Group("shift", "blocks.1", 1)] is None
    assert norms[Group("shift", "blocks.2", 2)] > 0


def test_what_is_read_back_is_what_was_seen(tmp_path):
    net, recorder = with_gradients(model()), Recorder(tmp_path / "roles.jsonl")
    recorder(0, net)
    assert read_recording(recorder.path) == observe(0, dict(net.named_parameters()))


def test_a_resumed_run_overwrites_what_it_will_record_again(tmp_path):
    path, net = tmp_path / "roles.jsonl", model()
    first = Recorder(path, steps=(0, 1, 2, 3))
    for step in range(4):
        first(step, net)
    unbroken = path.read_text()
    path.write_text(unbroken + '{"step": 4, "recor')
    resumed = Recorder(path, steps=(0, 1, 2, 3))
    for step in (2, 3):
        resumed(step, net)
    assert path.read_text() == unbroken


def test_recording_changes_neither_weights_nor_gradients(tmp_path):
    net = with_gradients(model())
    before = [(p.detach().clone(), p.grad.clone()) for p in net.parameters()]
    Recorder(tmp_path / "roles.jsonl")(0, net)
    for parameter, (weight, gradient) in zip(net.parameters(), before, strict=True):
        assert torch.equal(parameter, weight)
        assert torch.equal(parameter.grad, gradient)


def test_edges_have_the_five_digits_that_printing_gives():
    values = [0.0, 1.0, -1e38, 1e38, *(10.0 ** (place / 7) * (-1) ** place for place in range(-100, 80))]
    assert to_five_digits(values) == [float(f"{value:.5g}") for value in values]
