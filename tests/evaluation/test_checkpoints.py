"""Scores while a run trains: beside the weights, never in them, and never computed twice."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from adaln.evaluation import checkpoints as room
from adaln.evaluation.checkpoints import (
    Scoring,
    is_scored,
    read_scores,
    samples_file,
    score,
    score_saved,
    scored_steps,
    scores_file,
    scoring_hook,
)
from adaln.parallel import rank
from adaln.processes import SamplerConfig
from adaln.runs import Run
from adaln.sampling import SampleConfig
from adaln.tensor_files import load_tensors
from adaln.training import train
from adaln.views.scores import score_blocks, score_curves, scores_of
from helpers.in_threads import in_processes
from helpers.pictures import png, write_folder, write_zip

MEANS = """
import torch

def means(images: torch.Tensor) -> torch.Tensor:
    return images.float().reshape(len(images), 4, -1).mean(dim=2) / 255
"""
FEW = SampleConfig(20, sampler=SamplerConfig(solver="ddim", steps=2))


@pytest.fixture
def scoring(tmp_path, monkeypatch):
    """Features that cost nothing."""
    (tmp_path / "quarter_means.py").write_text(MEANS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*sys.path])
    yield Scoring(FEW, "quarter_means:means")
    sys.modules.pop("quarter_means", None)
    room.reference.cache_clear()


def train_scored(run: Run, scoring: Scoring, steps: tuple[int, ...]) -> list[int]:
    """What `adaln train` does."""
    score_saved(run, scoring, steps)
    train(run, [scoring_hook(run, scoring, steps)])
    return score_saved(run, scoring, steps)


def weights(run: Run) -> dict[str, torch.Tensor]:
    """Every tensor of every checkpoint: weights, averages, optimiser."""
    return {
        f"{step}/{file}/{name}": tensor
        for step in run.steps_saved()
        for file in ("model", "ema", "training")
        for name, tensor in load_tensors(run.folder(step) / f"{file}.safetensors").items()
    }


def assert_same_weights(a: Run, b: Run) -> None:
    ours, theirs = weights(a), weights(b)
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name]), name


def test_a_run_that_is_scored_has_the_weights_and_the_log_of_one_that_is_not(scoring, small_config, tmp_path):
    plain, scored = (Run.create(small_config(), tmp_path / name) for name in ("plain", "scored"))
    train(plain)
    assert train_scored(scored, scoring, (5, 10)) == []
    assert_same_weights(plain, scored)
    assert (scored.path / "metrics.jsonl").read_bytes() == (plain.path / "metrics.jsonl").read_bytes()
    assert len(list(scored.path.glob("scores/*.scores.json"))) == 2


def test_a_score_taken_on_the_way_is_that_of_its_checkpoint_s_averaged_weights(
    scoring, small_config, tmp_path, trained
):
    run = Run.create(small_config(), tmp_path / "scored")
    train_scored(run, scoring, (5, 10))
    for step in (5, 10):
        found, afterwards = read_scores(run, scoring, step), score(trained, scoring, step)
        assert found.scores == afterwards.scores
        choices = found.provenance["choices"]
        assert (choices["step"], choices["weights"], choices["seed"]) == (step, "ema", 0)


@pytest.mark.slow
def test_a_run_stopped_while_it_is_scored_goes_on_there_and_computes_no_score_twice(
    scoring, small_config, tmp_path, monkeypatch
):
    run, undisturbed = (Run.create(small_config(steps=15), tmp_path / name) for name in ("a", "b"))
    train_scored(undisturbed, scoring, (5, 10, 15))
    calls: list[int] = []

    def evaluate(*words, **options):
        calls.append(options["choices"]["step"])
        if calls == [5, 10]:
            raise KeyboardInterrupt
        return real(*words, **options)

    real = room.evaluate
    monkeypatch.setattr(room, "evaluate", evaluate)
    with pytest.raises(KeyboardInterrupt):
        train_scored(run, scoring, (5, 10, 15))
    assert run.steps_saved() == [5, 10]
    assert not scores_file(run, scoring, 10).exists()
    assert train_scored(run, scoring, (5, 10, 15)) == []
    assert calls == [5, 10, 10, 15]
    for step in (5, 10, 15):
        assert read_scores(run, scoring, step).scores == read_scores(undisturbed, scoring, step).scores
    assert_same_weights(run, undisturbed)


def test_processes_share_a_score_and_one_of_them_writes_it(scoring, trained, tmp_path, monkeypatch):
    score_saved(trained, scoring, (5,))
    alone = read_scores(trained, scoring, 5)
    for file in (scores_file(trained, scoring, 5), samples_file(trained, scoring, 5)):
        file.unlink()
    wrote, write = [], room.write_score_file
    with monkeypatch.context() as patch:
        patch.setattr(room, "reference", room.reference.__wrapped__)  # threads would share what processes do not
        patch.setattr(room, "write_score_file", lambda *words: (wrote.append(rank()), write(*words)))
        lost = in_processes(patch, 2, lambda: score_saved(Run.open(trained.path), scoring, (5, 7)))
        again = in_processes(patch, 2, lambda: score_saved(Run.open(trained.path), scoring, (5,)))
    assert (lost, again) == ([[7], [7]], [[], []])
    assert wrote == [0]
    assert read_scores(trained, scoring, 5) == alone


def test_what_is_missing_is_made_up_for_from_its_checkpoint(scoring, trained):
    assert score_saved(trained, scoring, (5, 10)) == []
    file = scores_file(trained, scoring, 5)
    before = file.read_bytes()
    file.unlink()
    assert score_saved(trained, scoring, (5, 10)) == []
    assert file.read_bytes() == before


def test_a_step_whose_checkpoint_is_gone_is_said_to_be_lost(scoring, small_config, tmp_path):
    run = Run.create(small_config(checkpoint_every=2, keep_checkpoints=2), tmp_path)
    train(run)
    assert train_scored(run, scoring, (2, 8, 10)) == [2]
    assert samples_file(run, scoring, 8).is_file()


def test_checkpoints_that_will_be_dropped_are_scored_before_training_goes_on(scoring, small_config, tmp_path):
    config = small_config(checkpoint_every=2, keep_checkpoints=1, steps=4)
    train(Run.create(config, tmp_path, tmp_path / "run"))
    run = Run.create(small_config(checkpoint_every=2, keep_checkpoints=1, steps=8), tmp_path, tmp_path / "run")
    assert train_scored(run, scoring, (4, 6, 8)) == []
    assert run.steps_saved() == [8]


def test_the_batch_size_makes_no_other_score(scoring, trained):
    score(trained, scoring, 10)
    assert is_scored(trained, replace(scoring, sample=replace(FEW, batch_size=7)), 10)
    assert not is_scored(trained, replace(scoring, sample=replace(FEW, seed=1)), 10)
    assert not is_scored(trained, replace(scoring, reference="digits"), 10)


@pytest.mark.parametrize("kind", ["npz", "folder", "zip"])
def test_scores_are_those_against_what_the_reference_holds_whatever_it_is_called(scoring, trained, tmp_path, kind):
    def write(name: str, seed: int) -> str:
        images = np.random.default_rng(seed).integers(0, 256, (4, 8, 8), dtype=np.uint8)
        if kind == "npz":
            np.savez(tmp_path / f"{name}.npz", arr_0=images[..., None])
            return str(tmp_path / f"{name}.npz")
        files = {f"{number}.png": png(image) for number, image in enumerate(images)}
        path = tmp_path / (name if kind == "folder" else f"{name}.zip")
        return str((write_folder if kind == "folder" else write_zip)(path, files))

    beside = replace(scoring, reference=write("a", 0))
    first = score(trained, beside, 10)
    assert is_scored(trained, beside, 10)
    assert kind == "zip" or is_scored(trained, replace(scoring, reference=write("b", 0)), 10)
    write("a", 1)
    assert not is_scored(trained, beside, 10)
    second = score(trained, beside, 10)
    assert read_scores(trained, beside, 10) == second != first
    assert second.provenance["reference"]["sha256"] != first.provenance["reference"]["sha256"]


def test_two_ways_of_scoring_lie_beside_each_other_and_make_two_curves(scoring, trained):
    other = Scoring(SampleConfig(12, sampler=FEW.sampler), scoring.features)
    for one in (scoring, other):
        assert score_saved(trained, one, (5, 10)) == []
    curves = score_curves(scores_of(trained))
    assert [list(curve) for curve in curves] == [[5, 10], [5, 10]]
    titles = [block.title for block in score_blocks(scores_of(trained))]
    assert titles[0].startswith("Scores: 20 samples, ddim in 2 steps") and "FID-like against steps" in titles


def test_the_reference_may_be_another_than_the_run_s_data(scoring, trained, tmp_path):
    reference = samples_file(trained, scoring, 10)
    own = score(trained, scoring, 10)
    beside = Scoring(FEW, scoring.features, str(reference))
    assert score(trained, beside, 10)["fid"].value == pytest.approx(0, abs=1e-9)
    assert own["fid"].value > 1e-4
    assert read_scores(trained, scoring, 10) == own


def test_steps_to_score_are_those_asked_for_and_the_end(small_config):
    config = small_config(steps=20, checkpoint_every=5)
    assert scored_steps(config, (5,), None) == (5,)
    assert scored_steps(config, (5,), 10) == (5, 10, 20)
    assert scored_steps(small_config(steps=12, checkpoint_every=5), (), 5) == (5, 10, 12)
    assert scored_steps(config, (), None) == ()
    for at, every, said in (
        ((7,), None, "evaluate.at asks for step 7, .* nearest that does is 5"),
        ((25,), None, "step 25, .* nearest that does is 20"),
        ((), 3, "evaluate.every asks for step 3, .* nearest that does is 5"),
        ((), 0, "evaluate.every is 0"),
    ):
        with pytest.raises(ValueError, match=said):
            scored_steps(config, at, every)


@pytest.mark.parametrize(
    ("otherwise", "said"),
    [
        ({"scores": {}}, "it has no scores"),
        ({"provenance": {}}, "it has no 'choices'"),
        ({"provenance": {part: {} for part in room.PARTS}}, "it has no samples.name"),
        ({"provenance": dict.fromkeys(room.PARTS, 3)}, "is not a file of scores"),
    ],
)
def test_scores_without_what_they_are_of_are_refused_by_the_name_of_their_file(tmp_path, otherwise, said):
    parts = {part: dict.fromkeys(names, "x") for part, names in room.PARTS.items()}
    fid = {
        "metric": "fid",
        "value": 1.0,
        "low": 0.5,
        "high": 1.5,
        "num_samples": 2,
        "num_reference": 2,
        "interval": "",
        "label": "",
    }
    file = tmp_path / "a.scores.json"
    file.write_text(json.dumps({"scores": {"fid": fid}, "provenance": parts, "notes": []} | otherwise))
    with pytest.raises(ValueError, match=r"a\.scores\.json' is not a file of scores") as caught:
        room.read_score_file(file)
    assert said in str(caught.value)
