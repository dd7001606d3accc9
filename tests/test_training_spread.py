"""Weights, averages and moments spread over processes (FSDP2): the run of one process, and its files."""

from dataclasses import replace

import pytest

from adaln.analysis.recorder import Recorder, read_recording
from adaln.conditioning import SCHEMES
from adaln.execution import Execution
from adaln.models import MODELS
from adaln.runs import Run, read_records
from adaln.tensors import load_tensors
from adaln.training import train
from helpers.torchrun import losses, together
from test_training_together import alone, configured

__all__ = ["alone", "configured"]  # fixtures
pytestmark = pytest.mark.slow
SPREAD = {"parallel": "fsdp"}


def assert_same_files(run: Run, one: Run, step: int) -> None:
    """The tensors of a checkpoint are those of one process: names, shapes and types, and values to rounding.

    Adam makes a tenth of a step of 4e-3 out of a gradient that is rounding, as that of a bias of keys.
    """
    for name in ("model", "ema", "training"):
        ours, theirs = (load_tensors(each.folder(step) / f"{name}.safetensors") for each in (run, one))
        assert ours.keys() == theirs.keys()
        for key, tensor in theirs.items():
            assert (ours[key].shape, ours[key].dtype) == (tensor.shape, tensor.dtype), key
            assert (ours[key] - tensor).abs().max() < 4e-4, key


@pytest.mark.parametrize(
    ("model", "world", "execution"),
    [
        ("tiny", 2, {}),
        ("tiny", 3, {"micro_batches": 2, "checkpoint_blocks": 1}),
        ("tiny", 2, {"micro_batches": 2, "checkpoint_blocks": 1, "compile": True}),
        ("U-DiT-tiny", 2, {}),
    ],
)
def test_spread_weights_have_the_losses_and_files_of_one_process(configured, alone, tmp_path, model, world, execution):
    changes = {"model": MODELS[model], "batch_size": 12}
    run = Run.create(configured(**changes), tmp_path / "spread")
    done = together(world, run, execution=SPREAD | execution)
    assert done.returncode == 0, done.stderr[-2000:]
    one = alone(**changes)
    assert len(losses(run)) == 20
    assert losses(run) == pytest.approx(losses(one), rel=1e-5, abs=0)
    for step in (10, 20):
        assert_same_files(run, one, step)


def test_weights_sent_in_bfloat16_have_the_losses_of_one_process_that_rounds_as_often(configured, alone, tmp_path):
    """Gradients are rounded to bfloat16 once per part of a batch, whoever computes the part."""
    run, one = (Run.create(configured(precision="bfloat16"), tmp_path / name) for name in ("spread", "one"))
    assert together(2, run, execution=SPREAD).returncode == 0
    train(one, execution=Execution(micro_batches=2))
    assert losses(run) == pytest.approx(losses(one), rel=1e-6, abs=0)
    assert losses(run) != pytest.approx(losses(alone()), rel=1e-5, abs=0)
    assert_same_files(run, one, 20)


def test_the_gradient_is_clipped_by_the_norm_of_the_whole(configured, alone, tmp_path):
    optim = replace(configured().optim, grad_clip=0.05)
    run = Run.create(configured(optim=optim), tmp_path / "spread")
    assert together(2, run, execution=SPREAD).returncode == 0
    one = alone(optim=optim)
    assert losses(run) == pytest.approx(losses(one), rel=1e-5, abs=0)
    norms = [[row["grad_norm"] for row in read_records(each.path / "metrics.jsonl")] for each in (run, one)]
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)
    assert min(norms[1]) > 0.05


def test_held_rows_stay_held_in_every_process(configured, alone, tmp_path):
    run = Run.create(configured(scheme=SCHEMES["adaln-mix"]), tmp_path / "spread")
    assert together(2, run, execution=SPREAD).returncode == 0
    one = alone(scheme=SCHEMES["adaln-mix"])
    assert (run.path / "order.json").read_bytes() == (one.path / "order.json").read_bytes()
    assert losses(run) == pytest.approx(losses(one), rel=1e-5, abs=0)
    assert_same_files(run, one, 20)


def test_a_run_goes_on_spread_over_any_number_of_processes(configured, alone, tmp_path):
    """Two spread, three spread, two with the whole network each, one alone: stopped at any step."""
    changes = {"batch_size": 12}
    run = Run.create(configured(**changes), tmp_path / "moving")
    together(2, run, terminate=[1, 3], execution=SPREAD)
    assert run.steps_saved() == [4]
    together(3, run, terminate=[0, 8], execution=SPREAD)
    together(2, run, terminate=[1, 13])
    assert run.steps_saved() == [4, 9, 10, 14]
    train(Run.open(run.path))
    assert losses(run) == pytest.approx(losses(alone(**changes)), rel=1e-5, abs=0)


def test_what_is_not_finite_in_one_shard_stops_all_processes(configured, tmp_path):
    run = Run.create(configured(), tmp_path)
    done = together(2, run, poison=[1, 12], execution=SPREAD)
    assert done.returncode != 0
    assert done.stderr.count("NonFinite: step 12: the gradient of 'blocks.0.attn.qkv.weight' is not finite") >= 2
    assert run.steps_saved() == [10]


def test_every_process_alone_records_what_spread_ones_record(configured, tmp_path):
    runs = [Run.create(configured(), tmp_path / name) for name in ("spread", "alone")]
    assert together(2, runs[0], record=True, execution=SPREAD).returncode == 0
    train(runs[1], [Recorder(runs[1].path / "analysis" / "roles.jsonl")])
    spread, alone = (read_recording(run.path / "analysis" / "roles.jsonl") for run in runs)
    assert [(r.step, r.group) for r in spread] == [(r.step, r.group) for r in alone]
    for ours, theirs in zip(spread, alone, strict=True):
        assert ours.moments.std == pytest.approx(theirs.moments.std, rel=1e-3, abs=1e-7)
        assert ours.gradient_norm == pytest.approx(theirs.gradient_norm, rel=1e-3, abs=1e-7)


@pytest.mark.parametrize("execution", [{}, SPREAD])
def test_torchrun_brings_a_run_back_whose_worker_was_killed(configured, alone, tmp_path, execution):
    run = Run.create(configured(), tmp_path / "killed")
    done = together(2, run, kill=[1, 14], execution=execution, restarts=1)
    assert done.returncode == 0, done.stderr[-2000:]
    assert [session["from_step"] for session in run.manifest["sessions"]] == [0, 10]
    assert losses(run) == pytest.approx(losses(alone()), rel=1e-5, abs=0)
