"""A run trained from Python: hooks, logs and trackers, samples in memory."""

from dataclasses import replace

import numpy as np
import pytest

import adaln
from adaln.config import digits
from adaln.evaluation.scoring import Scoring
from adaln.evaluation.steps import scored_steps
from adaln.registry import Registry, UnknownName
from adaln.sampling import SampleConfig
from adaln.training import TRACKERS


class Seen:
    def __init__(self, run):
        self.run, self.steps, self.recorded = run, [], []

    def on_log(self, step, metrics):
        self.steps += [step] * ("loss" in metrics)
        self.recorded += [step] * ("gate/std" in metrics)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch):
    """The trackers that are made, by a registry of the test's own."""
    made = []
    registry = Registry("tracker", {"seen": lambda run: made.append(Seen(run)) or made[-1]})
    monkeypatch.setattr("adaln.evaluation.tracking.TRACKERS", registry)
    return made


def test_hooks_logs_and_trackers_follow_a_run(small_config, tmp_path, seen):
    hooked, logged = [], {}
    run = adaln.train(
        small_config(steps=4),
        tmp_path / "run",
        "cpu",
        hooks=[lambda step, model: hooked.append(step)],
        on_log=[lambda step, metrics: logged.update({step: metrics["loss"]})],
        track=["seen"],
    )
    assert hooked == [0, 1, 2, 3]
    assert logged == {row["step"]: row["loss"] for row in run.metrics()} and list(logged) == [2, 4]
    assert seen[0].run is run and seen[0].steps == [2, 4] and seen[0].recorded == [0, 1, 2]
    assert adaln.open_run(tmp_path / "run").steps_saved() == [4]


def test_a_step_without_a_checkpoint_is_not_scored_in_silence(small_config, tmp_path):
    with pytest.raises(ValueError, match=r"asks for step 3, which leaves no checkpoint .*; the nearest that does is 4"):
        adaln.train(small_config(steps=4), tmp_path / "run", "cpu", score_at=[3])
    assert not (tmp_path / "run").exists()
    assert scored_steps(small_config(steps=4, keep_at=(3, 9)), [3], None) == (3,)


@pytest.mark.slow
def test_an_average_that_the_run_will_not_keep_is_refused_before_anything_is_written(small_config, tmp_path):
    scoring = Scoring(SampleConfig(4, ema=0.05))
    with pytest.raises(
        ValueError, match=r"evaluate\.ema is 0\.05, which needs averages: --optim\.ema-widths 0\.05 0\.1"
    ):
        adaln.train(small_config(steps=4), tmp_path / "run", "cpu", score_at=[4], scoring=scoring)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_checkpoint_that_is_gone_is_not_left_unscored_in_silence(small_config, tmp_path):
    config = small_config(steps=6, checkpoint_every=2, keep_checkpoints=1)
    adaln.train(config, tmp_path / "run", "cpu")
    with pytest.warns(
        UserWarning, match=r"^not scored: steps 2, 4, whose checkpoints are gone \(see keep_checkpoints\)$"
    ):
        adaln.train(config, tmp_path / "run", "cpu", score_at=[2, 4])


def test_an_unknown_tracker_is_refused_before_anything_is_written(small_config, tmp_path, seen):
    with pytest.raises(UnknownName, match=r"unknown tracker 'sen' \(nearest: 'seen'\); known: seen"):
        adaln.train(small_config(), tmp_path / "run", "cpu", track=["sen"])
    assert not (tmp_path / "run").exists()
    assert list(TRACKERS) == ["tensorboard", "wandb", "trackio", "mlflow"]


def torn(run):
    raise OSError("no network")


@pytest.mark.parametrize(
    ("make", "why"), [(torn, "OSError: no network"), (lambda run: print, "TypeError: a builtin_function_or_method has")]
)
def test_a_tracker_that_cannot_follow_is_one_line_before_anything_is_trained(
    small_config, tmp_path, monkeypatch, make, why
):
    monkeypatch.setattr("adaln.evaluation.tracking.TRACKERS", Registry("tracker", {"torn": make}))
    with pytest.raises(ValueError, match=f"^tracker 'torn' cannot be used: {why}"):
        adaln.train(small_config(), tmp_path / "run", "cpu", track=["torn"])
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_each_log_gets_its_own_metrics(small_config, tmp_path):
    logged = []
    greedy, after = (lambda step, metrics: metrics.clear()), (lambda step, metrics: logged.append(set(metrics)))
    adaln.train(small_config(steps=2), tmp_path / "run", "cpu", on_log=[greedy, after])
    assert logged == [{"loss", "grad_norm"}]


@pytest.mark.slow
def test_samples_are_scored_alike_from_memory_and_from_disk(trained, tmp_path):
    samples = adaln.sample(trained, num_images=16, solver="ddim", steps=2)
    samples.save(tmp_path / "samples.npz")
    assert np.array_equal(np.load(tmp_path / "samples.npz")["arr_0"], samples.images)
    how = {"metrics": ["precision"], "replicates": 0, "device": "cpu"}
    in_memory, on_disk = (adaln.evaluate(s, trained, **how) for s in (samples, tmp_path / "samples.npz"))
    assert in_memory["precision"].value == on_disk["precision"].value
    assert in_memory.provenance["choices"] == on_disk.provenance["choices"] == samples.provenance
    assert "Precision" in str(in_memory)


def test_what_looks_at_weights_takes_a_run_its_path_a_network_or_tensors(trained):
    network, _ = trained.load_model(None, "model")
    sources = (trained, trained.path, str(trained.path), network, dict(network.named_parameters()))
    stds = {adaln.fit(source).roles["gate"].stds for source in sources}
    assert len(stds) == 1
    assert len({adaln.describe(source)[0].summary.moments.std for source in sources}) == 1


def test_a_run_that_is_refused_before_its_first_step_leaves_no_folder(small_config, tmp_path):
    config = small_config(steps=4)
    held = replace(config, scheme=adaln.scheme("adaln"), optim=replace(config.optim, weight_decay=0.1))
    with pytest.raises(ValueError, match="decay"):
        adaln.train(held, tmp_path / "run", "cpu")
    assert not (tmp_path / "run").exists()
    adaln.train(config, tmp_path / "run", "cpu")
    with pytest.raises(ValueError, match="another config"):
        adaln.train(held, tmp_path / "run", "cpu")
    assert adaln.open_run(tmp_path / "run").steps_saved() == [4]


@pytest.mark.parametrize(
    ("at", "every", "way"),
    [
        ([30, 500, 75], None, "is 500; --keep-at 30 75 makes all that are asked for"),
        ((), 300, "is 500; --checkpoint-every 300 makes all that are asked for"),
        ([9000], None, "the nearest that does is 2000"),
    ],
)
def test_of_steps_without_a_checkpoint_it_is_said_once_what_makes_all_of_them(at, every, way):
    with pytest.raises(ValueError, match=r"leaves no checkpoint") as caught:
        scored_steps(replace(digits(), checkpoint_every=500, steps=2000), at, every)
    assert str(caught.value).endswith(way)
