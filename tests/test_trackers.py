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
        self.current = None
        current = types.SimpleNamespace(get=lambda: self.current, set=lambda run: setattr(self, "current", run))
        self.context_vars = types.SimpleNamespace(current_run=current)
        self.Histogram = self.Image = lambda *data, **settings: (data, settings)
        self.Html = lambda page: Path(page).name

    def init(self, **settings):
        self.calls.append(("init", settings))
        self.current = self  # as trackio has it, which ends the one before
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
    assert (first, settings["project"], settings["resume"]) == ("init", "adaln", "allow")
    assert f"{tmp_path.name}{'-' if name == 'trackio' else '/'}run" in settings["name"]
    assert settings["config"]["optim.lr"] == run.config.optim.lr
    assert [(metrics["loss"], step) for _, metrics, step in logs if "loss" in metrics] == [
        (row["loss"], row["step"]) for row in run.metrics()
    ]
    assert last == ("finish",)


def network():
    return build(DiTConfig(16, 2, 2, 4), DIGITS, generator("trackers"))


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
def test_a_run_is_followed_by_histograms_scores_samples_and_its_page(small_config, tmp_path, monkeypatch):
    kept = Everything()
    monkeypatch.setattr("adaln.registry._registered", {})  # which studies of other tests would hand to their workers
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
    kept, net = Everything(), network()
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


def test_a_run_of_trackio_that_the_program_began_itself_is_joined_and_not_ended(tmp_path, monkeypatch):
    library = Library("trackio")
    library.config, library.current = {}, library
    library.log = lambda metrics, **settings: library.calls.append((metrics, settings))
    monkeypatch.setitem(sys.modules, "trackio", library)
    board = KNOWN["trackio"](tmp_path, {"sites": 4})
    board.on_log(3, {"gate/std": 1.0})
    board.on_event(3, "shut: gate", "why")
    board.close()
    assert library.calls == [({"gate/std": 1.0, "adaln_step": 3}, {}), ("alert", "shut: gate", "why")]
    assert library.config == {"adaln": {"sites": 4}}


@pytest.mark.slow
def test_beside_a_run_of_wandb_that_the_program_began_itself_is_one_with_every_row(tmp_path, monkeypatch):
    library, theirs = Library("wandb"), Library("theirs")
    theirs.project, theirs.entity, theirs.group, theirs.id = "mine", "", "sweep", "abc"
    library.run = theirs
    monkeypatch.setitem(sys.modules, "wandb", library)
    with adaln.watch(network(), to=tmp_path / "w", every=50, track=["wandb"]) as watched:
        for number in range(50):
            watched.step(loss=float(number))
    (_, settings), *logs, last = library.calls
    place = {"project": "mine", "group": "sweep", "reinit": "create_new"}
    assert settings["id"].startswith("abc-")
    assert place.items() <= settings.items() and "entity" not in settings and last == ("finish",) and theirs.calls == []
    losses = [(step, call["loss"]) for _, call, step in logs[:-1] if "loss" in call]
    assert losses == [(number + 1, float(number)) for number in range(50)]
    steps = [step for _, _, step in logs[:-1]]
    assert steps == sorted(steps)  # of which W&B drops what comes late


class Client:
    """MLflow's, keeping what it is called with."""

    def __init__(self):
        self.calls, self.runs = [], []

    def get_experiment_by_name(self, name):
        return None

    def create_experiment(self, name):
        return f"experiment {name}"

    def search_runs(self, experiments, alike, max_results):
        return [run for run in self.runs if all(f'tags.`{k}` = "{v}"' in alike for k, v in run.tags.items())]

    def create_run(self, experiment, run_name, tags):
        info = types.SimpleNamespace(run_id=f"{run_name} of {experiment}")
        self.runs.append(types.SimpleNamespace(info=info, tags=tags))
        return self.runs[-1]

    def __getattr__(self, name):
        return lambda *given, **named: self.calls.append((name, *given, *named.values()))


@pytest.mark.parametrize(("outer", "place"), [(None, "experiment adaln"), ("7", "theirs")])
def test_mlflow_gets_numbers_images_warnings_and_the_page_in_a_run_that_is_gone_on_with(
    tmp_path, monkeypatch, outer, place
):
    library, client = types.ModuleType("mlflow"), Client()
    library.MlflowClient, library.entities = lambda: client, types.SimpleNamespace(Metric=lambda *row: row)
    info = types.SimpleNamespace(run_id=outer, experiment_id="theirs")
    library.active_run = lambda: types.SimpleNamespace(info=info) if outer else None
    monkeypatch.setitem(sys.modules, "mlflow", library)
    (tmp_path / "w").mkdir()
    for _ in range(2):
        tracker = KNOWN["mlflow"](tmp_path / "w", {"sites": 4})
        tracker.open()
    tracker.on_log(3, {"gate/std": 1.0})
    tracker.on_event(3, "shut: gate", "why")
    tracker.close()
    assert len(client.runs) == 1 and client.runs[0].tags.get("mlflow.parentRunId") == outer
    run, *_, event, (called, of, [(name, value, _, step)]), last = [client.calls[0], *client.calls]
    assert run == ("log_dict", f"{tmp_path.name}/w of {place}", {"sites": 4}, "config.json")
    assert (called, of, name, value, step) == ("log_batch", run[1], "gate/std", 1.0, 3)
    assert (event, last) == (("set_tag", run[1], "shut gate", "step 3: why"), ("set_terminated", run[1]))


def test_mlflow_gets_many_numbers_in_few_calls_that_wait_for_seconds_only(tmp_path, monkeypatch):
    library, client, now = types.ModuleType("mlflow"), Client(), [0.0]
    library.MlflowClient, library.entities = lambda: client, types.SimpleNamespace(Metric=lambda *row: row)
    library.active_run = lambda: None
    client.log_batch = lambda run, metrics: client.calls.append([step for *_, step in metrics])
    monkeypatch.setitem(sys.modules, "mlflow", library)
    monkeypatch.setattr("adaln.trackers.time.monotonic", lambda: now[0])
    tracker = KNOWN["mlflow"](tmp_path, {})
    tracker.open()
    client.calls.clear()
    for step in range(1_500):
        tracker.on_log(step, {"loss": 1.0})
    now[0] = 6.0
    tracker.on_log(1_500, {"loss": 1.0})
    tracker.on_log(1_501, {"loss": 1.0})
    assert client.calls == [list(range(1_000)), list(range(1_000, 1_501))]
    tracker.close()
    assert client.calls[2] == [1_501]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_a_folder_has_runs_of_its_own_that_go_on_with_it_though_it_was_moved(tmp_path, monkeypatch, name):
    library, key = Library(name), {"wandb": "id", "trackio": "name"}[name]
    monkeypatch.setitem(sys.modules, name, library)

    def known_to_library(folder, step):
        adaln.watch(network(), to=folder, step=step, track=[name]).close()
        return [call[1][key] for call in library.calls if call[0] == "init"][-1]

    first, second = (known_to_library(tmp_path / one / "watched", None) for one in ("a", "b"))
    assert first != second and (name == "wandb" or library.current is None)
    (tmp_path / "a" / "watched").rename(tmp_path / "moved")
    assert known_to_library(tmp_path / "moved", 3) == first
    assert known_to_library(tmp_path / "moved", 0) not in (first, second)


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


class Away:
    """A service that does not answer, and then refuses."""

    def __init__(self):
        self.may_answer = threading.Event()

    def open(self):
        self.may_answer.wait(30)
        raise ConnectionError("no network")

    def on_log(self, step, metrics):
        raise AssertionError("it was never opened")


def test_a_service_that_is_away_neither_delays_a_training_nor_ends_it(tmp_path):
    away = Away()
    handle = adaln.watch(network(), to=tmp_path / "w", every=1, track=[away])
    for _ in range(3):
        handle.step(loss=1.0)
    away.may_answer.set()
    with pytest.warns(UserWarning, match="tracker Away follows no more, the training goes on: ConnectionError: no"):
        handle.close()
    assert len((tmp_path / "w" / "metrics.jsonl").read_text().splitlines()) == 3


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_service_of_ours_that_is_away_is_one_warning(tmp_path, monkeypatch, name):
    def fails(*given, **named):
        raise ConnectionError("no network")

    library = Library(name)
    library.init, library.active_run, library.entities = fails, lambda: None, None
    library.MlflowClient = lambda: types.SimpleNamespace(get_experiment_by_name=fails)
    monkeypatch.setitem(sys.modules, name, library)
    with pytest.warns(UserWarning, match=f"tracker {name} follows no more, the training goes on: ConnectionError"):
        adaln.watch(network(), to=tmp_path / "w", track=[name]).close()


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


class Ends:
    """A library that wants to end the program."""

    def __init__(self, error):
        self.error = error

    def on_log(self, step, metrics):
        raise self.error


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), RuntimeError("no\n  network")])
def test_whatever_a_tracker_raises_is_one_line(error):
    beside = Beside("ends", Ends(error))
    beside.on_log(1, {})
    with pytest.warns(UserWarning, match=f"tracker ends follows no more.*{type(error).__name__}") as said:
        beside.close()
    assert [str(one.message).count("\n") for one in said] == [0]


def test_a_tracker_that_hangs_is_named_at_the_end(monkeypatch):
    monkeypatch.setattr("adaln.trackers.PATIENCE", 0.05)
    beside = Beside("stuck", slow := Slow())
    beside.on_log(1, {})
    with pytest.warns(UserWarning, match=r"tracker stuck follows no more.*no answer for 0.05 s"):
        beside.close()
    slow.may_go_on.set()


def test_where_warnings_are_errors_a_tracker_that_fails_raises_nothing(capsys):
    beside = Beside("ends", Ends(ConnectionError("gone")))
    beside.on_log(1, {})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        beside.close()
    assert "UserWarning: tracker ends follows no more" in capsys.readouterr().err


def test_trackers_of_a_training_that_an_exception_ended_are_closed_at_exit(tmp_path, monkeypatch):
    at_exit, closed = [], []
    monkeypatch.setattr("adaln.watching.door.atexit.register", at_exit.append)
    tracker = types.SimpleNamespace(on_log=lambda step, metrics: None, close=lambda: closed.append(True))
    watched = adaln.watch(network(), to=tmp_path / "w", every=10, track=[tracker])
    watched.step(loss=2.0)
    at_exit[0]()
    assert closed == [True] and '"loss": 2.0' in (tmp_path / "w" / "metrics.jsonl").read_text()
    at_exit[0]()
    assert closed == [True]
