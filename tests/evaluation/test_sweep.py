"""Ways of sampling one checkpoint: every combination once, the best asked again, nothing made twice."""

from dataclasses import replace

import pytest

from adaln.codec import changed
from adaln.evaluation import sweep as room
from adaln.evaluation.scoring import Grid, Scoring
from adaln.evaluation.sweep import sweep
from adaln.processes import SamplerConfig
from adaln.runs import Run
from adaln.sampling import SampleConfig
from adaln.views.sweep import answer, sweep_section

MEANS = """
import torch

def means(images: torch.Tensor) -> torch.Tensor:
    return images.float().reshape(len(images), 4, -1).mean(dim=2) / 255
"""
FEW = SampleConfig(20, sampler=SamplerConfig(solver="ddim", steps=2, clip=True))
GRID = Grid((1.0, 2.0), ("ema", "model"), steps=(2, 3))


@pytest.fixture
def scoring(tmp_path, monkeypatch) -> Scoring:
    (tmp_path / "sweep_means.py").write_text(MEANS)
    monkeypatch.syspath_prepend(tmp_path)
    return Scoring(FEW, features="sweep_means:means")


def test_every_combination_is_scored_once_and_the_best_again_with_another_seed(trained, scoring, monkeypatch):
    found = sweep(trained, scoring, GRID, "fid", None)
    samples = [way.scoring.sample for way in found.ways]
    assert [(s.weights, s.sampler.steps, s.guidance.scale) for s in samples] == [
        (weights, steps, scale) for weights in ("ema", "model") for steps in (2, 3) for scale in (1.0, 2.0)
    ]
    assert found.best.scores["fid"].value == min(way.scores["fid"].value for way in found.ways)
    assert found.again.scores.provenance["choices"]["seed"] == 1
    assert {key: found.again.scores.provenance["choices"][key] for key in ("weights", "guidance")} == {
        key: found.best.scores.provenance["choices"][key] for key in ("weights", "guidance")
    }
    assert (
        len([*(trained.path / room.FOLDER).glob("*.npz")]) == 2 and found.again.samples.exists()
    )  # the best's, of either seed
    monkeypatch.setattr(room, "score_into", None)
    assert sweep(trained, scoring, GRID, "fid", None).again.scores == found.again.scores


@pytest.mark.slow
def test_a_sweep_that_was_killed_scores_only_what_is_missing(trained, scoring, monkeypatch):
    made = []
    score_into = room.score_into

    def until_the_third(file, *rest):
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(file)
        return score_into(file, *rest)

    monkeypatch.setattr(room, "score_into", until_the_third)
    with pytest.raises(KeyboardInterrupt):
        sweep(trained, scoring, GRID, "fid", None)
    monkeypatch.setattr(room, "score_into", lambda file, *rest: (made.append(file), score_into(file, *rest))[1])
    sweep(trained, scoring, GRID, "fid", None)
    assert len(made) == len(set(made)) == 8 + 1


@pytest.mark.parametrize("metric", ["fid", "recall"])
def test_the_answer_is_the_best_in_the_direction_of_the_score(trained, scoring, metric):
    found = sweep(trained, scoring, Grid((1.0, 3.0), ("model",)), metric, 5)
    worst = {"fid": max, "recall": min}[metric]
    values = [way.scores[metric].value for way in found.ways]
    assert found.best.scores[metric].value != worst(values) or len(set(values)) == 1
    line = answer(found)
    assert line.startswith("Best of 2 by") and "on samples of another seed, the number to quote" in line
    titles = [block.title for block in sweep_section(found).blocks if not isinstance(block, str)]
    assert any(title.endswith("over the sweep") for title in titles) and "The best way's samples" in titles


def test_widths_of_averages_are_ways_beside_the_weights_for_a_run_that_keeps_some(trained, scoring):
    ways = room.ways_of(trained, scoring, Grid((1.0,), ("model",), ema=(0.05, 0.1)))
    assert [(way.sample.weights, way.sample.ema) for way in ways] == [("model", None), ("ema", 0.05), ("ema", 0.1)]
    with pytest.raises(ValueError, match="keeps no power-function averages"):
        sweep(trained, scoring, Grid((1.0,), ema=(0.05,)), "fid", None)


def test_samples_to_look_at_are_drawn_again_where_they_are_gone(trained, scoring):
    first = sweep(trained, scoring, Grid((1.0,), ("model",)), "fid", None)
    first.again.samples.unlink()
    again = sweep(trained, scoring, Grid((1.0,), ("model",)), "fid", None).again
    assert again.samples.exists() and again.scores.scores == first.again.scores.scores


def test_a_single_way_has_no_map_and_no_warning(trained, scoring):
    found = sweep(trained, scoring, Grid((1.0,), ("model",)), "fid", None)
    assert "best of" not in answer(found).lower()
    assert [type(block).__name__ for block in sweep_section(found).blocks] == ["str", "Table", "ImageGrid"]


@pytest.mark.parametrize(
    ("grid", "metric", "said"),
    [
        (Grid((1.0, 1.0)), "fid", r"over\.guidance is '1.0 1.0'; expected one value or more, each once"),
        (Grid(weights=()), "fid", r"over\.weights is ''; expected one value or more"),
        (Grid(steps=(0,)), "fid", "steps is 0, expected at least 1"),
        (GRID, "fiid", "nearest: 'fid'"),
        (Grid((1.0,), ("ema",)), "fdr", "fdr needs a validation set"),
        (Grid((1.0,), ("ema",)), "sfid", "metric is 'sfid'; these features give: fid, precision, recall"),
    ],
)
def test_what_cannot_be_swept_is_one_line(trained, scoring, grid, metric, said):
    with pytest.raises(ValueError, match=said):
        sweep(trained, scoring, grid, metric, None)


@pytest.mark.parametrize(
    ("sample", "metric", "said"),
    [
        ({"sample.weights": "model"}, "fid", r"weights is what a sweep varies; expected over\.weights"),
        ({"sample.ema": 0.05}, "fid", r"ema is what a sweep varies; expected over\.ema"),
        ({"sample.guidance.scale": 2.0}, "fid", r"guidance\.scale is what a sweep varies; expected over\.guidance"),
        ({"sample.num_images": 3}, "kid", "num_images is 3; KID needs at least 4"),
        ({"sample.num_images": 5}, "coverage", "num_images is 5; Coverage needs at least 6"),
    ],
)
def test_what_a_sweep_would_pass_over_is_refused_before_anything_is_drawn(trained, scoring, sample, metric, said):
    with pytest.raises(ValueError, match=said):
        sweep(trained, changed(scoring, sample), GRID, metric, None)


def test_a_score_outside_of_adms_suite_decides_where_it_is_asked_for(trained, scoring):
    found = sweep(trained, scoring, Grid((1.0,)), "mind", None)
    assert found.best.scores["mind"].value == min(way.scores["mind"].value for way in found.ways)
    assert {"fid", "mind"} <= found.again.scores.scores.keys() and "MIND" in answer(found)


def test_a_network_without_classes_is_swept_without_guidance(trained, scoring, monkeypatch):
    assert [way.sample.guidance.scale for way in room.ways_of(trained, scoring, Grid())] == [*room.GUIDANCE] * 2
    without = replace(trained.spec, num_classes=0)
    monkeypatch.setattr(Run, "spec", property(lambda self: without))
    monkeypatch.setattr(room, "check_scoring", lambda run, way, makes_reference: None)
    assert [way.sample.guidance.scale for way in room.ways_of(trained, scoring, Grid())] == [1.0, 1.0]
