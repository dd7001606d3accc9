"""Trackers beside a training: the calls that libraries get, and that none of them stops or slows it."""

import sys
import threading
import types
import warnings
from pathlib import Path

import pytest
import torch

import adaln
from adaln.evaluation.scoring import Scoring
from adaln.files import write_atomically
from adaln.models import DiTConfig, build
from adaln.processes.registry import SamplerConfig
from adaln.rng import generator
from adaln.sampling import SampleConfig
from adaln.trackers import KNOWN, Beside
from adaln.views.run_page import write_run_page
from helpers.networks import DIGITS


class Library(types.ModuleType):
    """What wandb and trackio have in common, keeping what it is called with."""

    def __init__(self, name):
        super().__init__(name)
        self.calls, self.run = [], None
        self.context_vars = types.SimpleNamespace(current_run=types.SimpleNamespace(get=lambda: self.run))
        self.Histogram = self.Image = lambda *data, **settings: (data, settings)
        self.Html = lambda page: Path(page).name

    def init(self, **settings):
        self.calls.append(("init", settings))
        return self

    def log(self, metrics, step=None):
        self.calls.append(("log", metrics, step))

    def alert(self, title, text):
        self.calls.append(("alert", title, text))

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
    assert [(metrics["loss"], step) for _, metrics, step in logs if "loss" in metrics] == [
        (row["loss"], row["step"]) for row in run.metrics()
    ]
    assert last == ("finish",)


class Everything:
    """A tracker that has every call, and keeps what it gets."""

    def __init__(self):
        self.calls = []

    def on_log(self, step, metrics):
        self.calls.append(("on_log", step, sorted(metrics)))

    def on_histograms(self, step, histograms):
        for counts, edges in histograms.values():
            assert sum(counts) > 0 and len(edges) == len(counts) + 1
        self.calls.append(("on_histograms", step, sorted(histograms)))

    def on_image(self, step, name, pixels):
        self.calls.append(("on_image", step, name, pixels.shape, str(pixels.dtype)))

    def on_event(self, step, title, text):
        self.calls.append(("on_event", step, title))

    def on_page(self, page):
        self.calls.append(("on_page", page.read_text()[:15], page.with_suffix(".md").exists()))


@pytest.mark.slow
def test_a_run_is_followed_by_histograms_scores_samples_and_its_page(small_config, tmp_path):
    kept = Everything()
    adaln.register("tracker", "everything", lambda run: kept)
    config = small_config(steps=4, log_every=2, checkpoint_every=2)
    scoring = Scoring(SampleConfig(num_images=16, sampler=SamplerConfig(steps=2)))
    adaln.train(
        config, tmp_path / "run", "cpu", track=["everything"], score_at=[2, 4], scoring=scoring, page=write_run_page
    )
    calls = {(name, step) for name, step, *_ in kept.calls}
    assert {("on_log", 2), ("on_log", 4), ("on_histograms", 0), ("on_histograms", 2)} <= calls
    scored = [call[1] for call in kept.calls if call[0] == "on_log" and "scores/fid" in call[2]]
    assert scored == [2, 4]
    images = [call for call in kept.calls if call[0] == "on_image"]
    assert images == [("on_image", step, "samples", (16, 64, 3), "uint8") for step in (2, 4)]
    assert kept.calls[-1] == ("on_page", "<!DOCTYPE html>", True)


def test_a_watched_training_is_followed_by_histograms_losses_and_events(tmp_path):
    kept, net = Everything(), build(DiTConfig(16, 2, 2, 4), DIGITS, generator("trackers"))
    handle = adaln.watch(net, to=tmp_path / "w", every=1, track=[kept])
    next(p for name, p in net.named_parameters() if name.endswith("adaLN_modulation.1.weight")).data.fill_(torch.nan)
    with pytest.warns(adaln.TrainingWarning, match="is not finite"):
        handle.step(loss=1.0)
    handle._page = lambda folder: write_atomically(folder / "index.md", "").with_suffix(".html")
    (tmp_path / "w" / "index.html").write_text("<!DOCTYPE html>")
    handle.close()
    names = [call[0] for call in kept.calls]
    assert names == ["on_log", "on_histograms", "on_log", "on_histograms", "on_event", "on_log", "on_page"]
    assert kept.calls[4] == ("on_event", 1, "not finite: weights") and kept.calls[5] == ("on_log", 1, ["loss"])


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_a_run_that_the_program_began_itself_is_joined_and_not_ended(tmp_path, monkeypatch, name):
    library = Library(name)
    library.config, library.run = {}, library
    library.log = lambda metrics, **settings: library.calls.append((metrics, settings))
    monkeypatch.setitem(sys.modules, name, library)
    board = KNOWN[name]("w", tmp_path, {"sites": 4})
    board.on_log(3, {"gate/std": 1.0})
    board.on_event(3, "shut: gate", "why")
    board.close()
    settings = {"commit": False} if name == "wandb" else {}
    assert library.calls == [({"gate/std": 1.0, "adaln_step": 3}, settings), ("alert", "shut: gate", "why")]
    assert library.config == {"adaln": {"sites": 4}}


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
