"""One checkpoint sampled in many ways, each scored; and the best of them asked again, since it was chosen."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from adaln.codec import changed
from adaln.evaluation.checkpoints import (
    check_scoring,
    read_score_file,
    samples_beside,
    score_into,
    scores_file,
)
from adaln.evaluation.scoring import Grid, Scoring
from adaln.metrics import METRICS, Scores, check_request
from adaln.parallel import from_first, rank
from adaln.progress import progress
from adaln.runs import Run
from adaln.runs.power_averages import kept_averages
from adaln.specs import WeightSet

GUIDANCE = (1.0, 1.25, 1.5, 2.0, 3.0)
"""Scales that published networks are sampled at."""
FOLDER = Path("analysis") / "sweep" / "scores"
"""Of a run: scores by all that they were made of, and samples of the best ways."""


@dataclass(frozen=True, slots=True)
class Way:
    """One way of sampling the checkpoint, and what it scored."""

    scoring: Scoring
    scores: Scores
    samples: Path
    """Where they lie, if they were kept."""


@dataclass(frozen=True, slots=True)
class Sweep:
    """All ways in the order of the grid, and which is the best by `metric`."""

    run: Run
    step: int
    metric: str
    ways: Sequence[Way]
    best: Way
    again: Way
    """The best way with samples of another seed, which did not choose it."""


def ways_of(run: Run, scoring: Scoring, grid: Grid, makes_reference: bool = True) -> list[Scoring]:
    """Every combination of the grid, the rest as `scoring` says; `ValueError` for what the run cannot do."""
    sample = scoring.sample
    for name, is_given, swept in (
        ("weights", sample.weights != "ema", "weights"),
        ("ema", sample.ema is not None, "ema"),
        ("guidance.scale", sample.guidance.scale != 1, "guidance"),
    ):
        if is_given:
            raise ValueError(f"{name} is what a sweep varies; expected over.{swept}, with one value or several")
    guidance = grid.guidance or (GUIDANCE if run.spec.num_classes else (1.0,))
    steps = grid.steps or (sample.sampler.steps,)
    averages: list[tuple[WeightSet, float | None]] = [(weights, None) for weights in grid.weights]
    averages += [("ema", width) for width in grid.ema]
    for name, values in (("guidance", guidance), ("weights", (*grid.weights, *grid.ema)), ("steps", steps)):
        if not values or len(set(values)) < len(values):
            raise ValueError(f"over.{name} is {' '.join(map(str, values))!r}; expected one value or more, each once")
    ways = [
        changed(
            scoring,
            {
                "sample.weights": weights,
                "sample.ema": width,
                "sample.sampler.steps": count,
                "sample.guidance.scale": scale,
            },
        )
        for (weights, width), count, scale in product(averages, steps, guidance)
    ]
    for way in ways:
        check_scoring(run, way, makes_reference)
    return ways


def planned(
    run: Run, scoring: Scoring, grid: Grid, metric: str, step: int | None, makes_reference: bool = True
) -> tuple[list[Scoring], int]:
    """The ways of a sweep and the step that is sampled; `ValueError` as of `sweep`, before anything is drawn."""
    check_request([metric], 0, batch_size=1)
    if scoring.sample.num_images < METRICS[metric].fewest:
        needed = f"{METRICS[metric].title} needs at least {METRICS[metric].fewest}"
        raise ValueError(f"num_images is {scoring.sample.num_images}; {needed}")
    if not METRICS[metric].in_adm:
        scoring = changed(scoring, {"further": (*scoring.further, metric)})
    ways, step = ways_of(run, scoring, grid, makes_reference), run.step_saved(step)
    for width in grid.ema:
        kept_averages(run.folders_until(step), width)
    return ways, step


def is_kept(run: Run, way: Scoring, step: int) -> bool:
    """Whether the scores of a way are in the run."""
    return (run.path / FOLDER / scores_file(run, way, step).name).exists()


def sweep(run: Run, scoring: Scoring, grid: Grid, metric: str, step: int | None) -> Sweep:
    """Score a checkpoint, the newest by default, in every way of the grid; what the run has of it is not made again.

    All ways draw from the same noise, so that they differ by what is swept alone. Of the samples those of the best way
    stay on disk. The processes of torchrun share each way's work.

    Raises `ValueError` before anything is drawn for a way that the run cannot be sampled or scored in, and for a
    `metric` that the features do not give.
    """
    ways, step = planned(run, scoring, grid, metric, step)
    folder, done = run.path / FOLDER, []
    for number, way in enumerate(ways):
        progress(f"sweep {run.path.name}", number, len(ways), "ways")
        file = folder / scores_file(run, way, step).name
        done.append(Way(way, _kept_or_made(file, run, way, step), samples_beside(file)))
        if metric not in done[0].scores.scores:
            raise ValueError(f"metric is {metric!r}; these features give: {', '.join(done[0].scores.scores)}")
        best = _best(done, metric)
        _forget_samples(each for each in done if each is not best)
    other = changed(best.scoring, {"sample.seed": scoring.sample.seed + 1})
    file = folder / scores_file(run, other, step).name
    again = _kept_or_made(file, run, other, step, needs_samples=True)
    progress(f"sweep {run.path.name}", len(ways), len(ways), "ways")
    return Sweep(run, step, metric, done, best, Way(other, again, samples_beside(file)))


def _best(done: Sequence[Way], metric: str) -> Way:
    better = min if METRICS[metric].better == "lower" else max
    return better(done, key=lambda way: way.scores[metric].value)


def _kept_or_made(file: Path, run: Run, scoring: Scoring, step: int, needs_samples: bool = False) -> Scores:
    is_kept = from_first(lambda: file.exists() and (samples_beside(file).exists() or not needs_samples))
    return read_score_file(file) if is_kept else score_into(file, run, scoring, step)


def _forget_samples(ways: Iterable[Way]) -> None:
    if rank() == 0:
        for way in ways:
            way.samples.unlink(missing_ok=True)
            way.samples.with_suffix(".json").unlink(missing_ok=True)
