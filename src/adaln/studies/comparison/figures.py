"""The pictures of a comparison: curves, sample grids, distributions over time."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np

from adaln.evaluation.files import samples_file
from adaln.report import Axis, ImageGrid, Lines, Series
from adaln.statistics import t_interval
from adaln.studies.plan import Outcome
from adaln.studies.time_to_quality import Course
from adaln.views.scores import shown_name

Outcomes = dict[str, list[Outcome]]
SHOWN_STEPS = (0, 1, 2, 10, 100, 1_000, 10_000, 100_000)
"""Of the recorded steps; the last step of a run is shown as well."""


def curves(by_scheme: Outcomes) -> list[Lines]:
    """Training loss and scores against steps."""
    runs = next(iter(by_scheme.values()))
    seeds, batch, scores = len(runs), runs[0].job.config.batch_size, next(iter(runs[0].scores().values()))
    score = shown_name("fid", scores)
    loss = Lines(
        "Training loss",
        f"Mean over {seeds} seeds (n = {seeds}) of the loss on {batch} images per step, averaged between log steps.",
        Axis("step", "optimiser updates", "log"),
        Axis("loss", "mean squared error + bound in bits", "log"),
        [mean_series(name, outcomes, loss_by_step) for name, outcomes in by_scheme.items()],
    )
    fid = Lines(
        f"{score} against steps",
        f"Mean over {seeds} seeds (n = {seeds}); the band is the least and the greatest of them. EMA weights;"
        f" {scores['fid'].label}.",
        Axis("step", "optimiser updates"),
        Axis(score, "lower is better", "log"),
        [mean_series(name, outcomes, partial(score_by_step, "fid"), band=True) for name, outcomes in by_scheme.items()],
    )
    return [loss, fid]


def loss_by_step(outcome: Outcome) -> dict[int, float]:
    """Mean training loss since the last log step."""
    return {row["step"]: row["loss"] for row in outcome.losses()}


def score_by_step(metric: str, outcome: Outcome) -> dict[int, float]:
    """One score of every scored checkpoint."""
    return {step: scores[metric].value for step, scores in outcome.scores().items()}


def mean_series(
    name: str, outcomes: Sequence[Outcome], read: Callable[[Outcome], dict[int, float]], band: bool = False
) -> Series:
    """Mean over seeds at the steps that all of them have; the band is the least and the greatest."""
    curves = [read(outcome) for outcome in outcomes]
    steps = sorted(set.intersection(*(set(curve) for curve in curves)))
    values = [[curve[step] for curve in curves] for step in steps]
    low, high = ([min(v) for v in values], [max(v) for v in values]) if band else (None, None)
    return Series(name, steps, [t_interval(v).value for v in values], low, high)


def gap_figures(courses: Mapping[str, Course], reference: str, score: str) -> list[Lines]:
    """For each scheme its paired difference from the reference against steps, with a simultaneous band."""
    return [_gap_figure(name, course, reference, score) for name, course in courses.items()]


def _gap_figure(name: str, course: Course, reference: str, score: str) -> Lines:
    steps, gaps = list(course.gaps), list(course.gaps.values())
    caption = (
        f"{name}: {course.verdict}. Mean paired difference over n = {len(course.reached)} seeds; the band holds for all"
        " steps and schemes together (Bonferroni, 95 %). Below 0 the scheme is ahead."
    )
    difference = Series(name, steps, [g.value for g in gaps], [g.low for g in gaps], [g.high for g in gaps])
    return Lines(
        f"{name} minus {reference} against steps",
        caption,
        Axis("step", "optimiser updates"),
        Axis(f"difference in {score}", "points"),
        [difference, Series(reference, steps, [0] * len(steps))],
    )


def grids(by_scheme: Outcomes) -> list[ImageGrid]:
    """One row of samples per scheme: the same seeds and classes in every row."""
    first = {name: outcomes[0] for name, outcomes in by_scheme.items()}
    images = []
    for outcome in first.values():
        file = samples_file(outcome.run, outcome.job.scoring, outcome.job.score_at[-1])
        with np.load(file) as archive:
            images.append(archive["arr_0"][:20])
    one = next(iter(first.values()))
    names = one.run.manifest["data"]["class_names"]
    caption = (
        f"20 of {one.job.sample.num_images} samples per scheme after {one.job.config.steps} steps, training seed"
        f" {one.job.config.seed}; a column has the same noise and the same class in every row, not chosen by eye."
    )
    labels = [names[i % len(names)] for i in range(20)] if names else []
    return [ImageGrid("Samples of each scheme", caption, np.stack(images), list(first), labels)]
