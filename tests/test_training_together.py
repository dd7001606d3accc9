"""Several processes train the run that one would: torchrun, gloo, this machine's cores."""

from dataclasses import replace

import pytest

from adaln.conditioning import SCHEMES
from adaln.models import MODELS
from adaln.runs import Run
from adaln.tensors import load_tensors
from adaln.training import train
from helpers.torchrun import losses, together

pytestmark = pytest.mark.slow


@pytest.fixture
def configured(small_config):
    """A run that logs every step, of images that are mirrored and labels that are dropped."""

    def make(**changes):
        data = replace(small_config().data, flip=True)
        return small_config(**{"data": data, "log_every": 1, "steps": 20, "checkpoint_every": 10, **changes})

    return make


@pytest.fixture
def alone(configured, tmp_path):
    """The same run by one process."""

    def make(**changes):
        run = Run.create(configured(**changes), tmp_path / "alone")
        train(run)
        return run

    return make


@pytest.mark.parametrize(("model", "world"), [("tiny", 2), ("tiny", 4), ("U-DiT-tiny", 2)])
def test_several_processes_have_the_losses_of_one(configured, alone, tmp_path, model, world):
    run = Run.create(configured(model=MODELS[model]), tmp_path / "together")
    done = together(world, run)
    assert done.returncode == 0, done.stderr[-2000:]
    one = alone(model=MODELS[model])
    assert len(losses(run)) == 20
    assert losses(run) == pytest.approx(losses(one), rel=1e-6, abs=0)
    assert run.steps_saved() == one.steps_saved()
    averaged = [load_tensors(one.folder(20) / "ema.safetensors") for one in (run, one)]
    for name, tensor in averaged[1].items():
        assert (averaged[0][name] - tensor).abs().max() < 1e-4, name


def test_parts_of_shares_recomputed_have_the_losses_of_one_process(configured, alone, tmp_path):
    run = Run.create(configured(), tmp_path / "together")
    done = together(2, run, execution={"micro_batches": 2, "checkpoint_blocks": 1})
    assert done.returncode == 0, done.stderr[-2000:]
    assert losses(run) == pytest.approx(losses(alone()), rel=1e-6, abs=0)


def test_all_processes_hold_the_order_that_one_measures(configured, alone, tmp_path):
    run = Run.create(configured(scheme=SCHEMES["adaln-mix"]), tmp_path / "together")
    assert together(2, run).returncode == 0
    one = alone(scheme=SCHEMES["adaln-mix"])
    assert (run.path / "order.json").read_bytes() == (one.path / "order.json").read_bytes()
    assert losses(run) == pytest.approx(losses(one), rel=1e-6, abs=0)


def test_a_run_goes_on_with_another_number_of_processes(configured, alone, tmp_path):
    """One process, then two that are stopped through the second, then one: stopped at any step, not at a checkpoint."""
    run = Run.create(configured(), tmp_path / "moving")
    assert "stopped at step 3 of 20" in together(1, run, terminate=[0, 2]).stderr
    assert run.steps_saved() == [3]
    stopped = together(2, run, terminate=[1, 12])
    assert stopped.returncode != 0
    assert stopped.stderr.count("stopped at step 13 of 20") >= 2
    assert run.steps_saved() == [3, 10, 13]
    train(Run.open(run.path))
    assert losses(run) == pytest.approx(losses(alone()), rel=1e-6, abs=0)
    assert [session["processes"] for session in run.manifest["sessions"]] == [1, 2, 1]


def test_what_is_not_finite_in_one_process_stops_all_of_them(configured, tmp_path):
    run = Run.create(configured(), tmp_path)
    done = together(2, run, poison=[1, 12])
    assert done.returncode != 0
    assert done.stderr.count("NonFinite: step 12: the gradient of 'blocks.0.attn.qkv.weight' is not finite") >= 2
    assert run.steps_saved() == [10]


def test_a_killed_process_takes_the_others_along_and_no_checkpoint(configured, alone, tmp_path):
    run = Run.create(configured(), tmp_path / "killed")
    assert together(2, run, kill=[1, 14]).returncode != 0
    assert run.steps_saved() == [10]
    assert together(2, run).returncode == 0
    assert losses(run) == pytest.approx(losses(alone()), rel=1e-6, abs=0)


def test_a_batch_that_processes_cannot_share_is_refused(configured, tmp_path):
    run = Run.create(configured(batch_size=9), tmp_path)
    assert "batch_size is 9; expected a multiple of the 2 processes" in together(2, run).stderr
