"""Trackers beside a training: the calls that libraries get, and that none of them stops or slows it."""

import sys
import threading
import types
import warnings

import pytest

import adaln
from adaln.trackers import KNOWN, Beside


class Library(types.ModuleType):
    """What wandb and trackio have in common, keeping what it is called with."""

    def __init__(self, name):
        super().__init__(name)
        self.calls = []

    def init(self, **settings):
        self.calls.append(("init", settings))
        return self

    def log(self, metrics, step):
        self.calls.append(("log", metrics, step))

    def finish(self):
        self.calls.append(("finish",))


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_a_run_is_followed_by_its_name_with_its_config(small_config, tmp_path, monkeypatch, name):
    library = Library(name)
    monkeypatch.setitem(sys.modules, name, library)
    run = adaln.train(small_config(steps=4, log_every=2), tmp_path / "run", "cpu", track=[name])
    (first, settings), *logs, last = library.calls
    assert (first, settings["project"], settings["name"], settings["resume"]) == ("init", "adaln", "run", "allow")
    assert settings["config"]["optim.lr"] == run.config.optim.lr
    assert [(metrics["loss"], step) for _, metrics, step in logs] == [
        (row["loss"], row["step"]) for row in run.metrics()
    ]
    assert last == ("finish",)


@pytest.mark.parametrize("name", list(KNOWN))
def test_a_package_that_is_missing_is_one_line_before_anything_is_trained(small_config, tmp_path, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ValueError, match=rf"{name} is not installed; pip install 'adaln\[{name}\]'"):
        adaln.train(small_config(), tmp_path / "run", "cpu", track=[name])
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


class Slow:
    def __init__(self):
        self.may_go_on, self.steps = threading.Event(), []

    def on_log(self, step, metrics):
        self.may_go_on.wait(30)
        self.steps.append(step)


def test_a_slow_tracker_is_waited_for_at_the_end_only(monkeypatch):
    slow = Slow()
    beside = Beside("slow", slow)
    for step in range(5):
        beside.on_log(step, {"loss": 1.0})
    assert slow.steps == []
    slow.may_go_on.set()
    beside.close()
    assert slow.steps == [0, 1, 2, 3, 4]


def test_what_a_tracker_raises_is_said_once_and_the_training_goes_on(small_config, tmp_path, monkeypatch):
    class Broken(Library):
        def log(self, metrics, step):
            raise ConnectionError("no network")

    monkeypatch.setitem(sys.modules, "wandb", Broken("wandb"))
    with pytest.warns(
        UserWarning, match="tracker wandb follows no more, the training goes on: ConnectionError"
    ) as said:
        run = adaln.train(small_config(steps=6, log_every=1), tmp_path / "run", "cpu", track=["wandb"])
    assert len([one for one in said if "tracker" in str(one.message)]) == 1
    assert run.steps_saved()[-1] == 6


def test_a_full_queue_drops_lines_and_says_so(monkeypatch):
    monkeypatch.setattr("adaln.trackers.MOST_WAITING", 2)
    beside = Beside("full", slow := Slow())
    with pytest.warns(UserWarning, match="tracker full follows no more, the training goes on: Full"):
        for step in range(5):
            beside.on_log(step, {})
    slow.may_go_on.set()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        beside.close()
