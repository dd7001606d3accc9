import os
import signal
import threading

import pytest
import torch

from adaln.runs import Run
from adaln.runs import checkpoints as checkpoints_room
from adaln.runs.checkpoints import Checkpoints
from adaln.training import train


@pytest.fixture
def held_up(monkeypatch):
    """Writing waits until this event is set."""
    go, save = threading.Event(), checkpoints_room.save_tensors

    def slowly(path, tensors, metadata):
        assert go.wait(60)
        save(path, tensors, metadata)

    monkeypatch.setattr(checkpoints_room, "save_tensors", slowly)
    return go


def state(value):
    return {name: {"w": torch.full((3,), float(value))} for name in ("model", "ema", "training")}


def test_what_is_written_is_what_there_was_when_the_save_began(tmp_path, held_up):
    checkpoints, tensors = Checkpoints(tmp_path, 0, ()), state(1)
    checkpoints.save(1, tensors)
    for file in tensors.values():
        file["w"].fill_(2)
    held_up.set()
    assert checkpoints.steps() == [1]
    assert checkpoints.load(1)["ema"]["w"].tolist() == [1, 1, 1]


@pytest.mark.slow
def test_training_goes_on_while_a_checkpoint_is_written(small_config, tmp_path, held_up):
    run = Run.create(small_config(), tmp_path)
    steps = []

    def watch(step, model):
        steps.append(step)
        if step == 9:
            assert not run.folder(5).exists()
            held_up.set()

    train(run, [watch])
    assert steps == list(range(10))
    assert run.steps_saved() == [5, 10]


def test_a_second_save_waits_for_the_first(tmp_path, held_up):
    checkpoints = Checkpoints(tmp_path, 0, ())
    checkpoints.save(1, state(1))
    threading.Timer(0.3, held_up.set).start()
    checkpoints.save(2, state(2))
    assert checkpoints.folder(1).exists()
    assert checkpoints.steps() == [1, 2]
    assert [checkpoints.load(step)["model"]["w"][0].item() for step in (1, 2)] == [1, 2]


def test_who_asks_for_the_steps_waits_for_the_one_that_is_being_written(tmp_path, held_up):
    checkpoints = Checkpoints(tmp_path, 0, ())
    checkpoints.save(1, state(1))
    threading.Timer(0.3, held_up.set).start()
    assert checkpoints.steps() == [1]


def test_what_went_wrong_while_writing_ends_the_step_in_one_line(small_config, tmp_path, monkeypatch):
    fail = threading.Event()

    def full(path, tensors, metadata):
        assert fail.wait(60)
        raise OSError(f"cannot write {path}: no space left on device")

    run, steps = Run.create(small_config(steps=1000, checkpoint_every=5), tmp_path), []

    def watch(step, model):
        steps.append(step)
        if step == 7:
            fail.set()
            run.checkpoints.wait()

    monkeypatch.setattr(checkpoints_room, "save_tensors", full)
    with pytest.raises(OSError, match="no space left on device") as error:
        train(run, [watch])
    assert "\n" not in str(error.value)
    assert steps == list(range(8))
    assert not list((run.path / "checkpoints").iterdir())


def test_a_stop_at_a_step_that_is_being_saved_does_not_save_it_again(small_config, tmp_path, monkeypatch):
    saved = []
    save = Checkpoints.save
    monkeypatch.setattr(Checkpoints, "save", lambda self, step, files: (saved.append(step), save(self, step, files)))
    run = Run.create(small_config(), tmp_path)

    def stop(step, model):
        if step == 4:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt, match="stopped at step 5"):
        train(run, [stop])
    assert saved == [5]
