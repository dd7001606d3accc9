"""Runs of several schemes over the same seeds -> one table, one verdict, one page."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import UInt8

from adaln.analysis import RoleRecord, UpdateOrder
from adaln.conditioning import SCHEMES
from adaln.data import Dataset
from adaln.evaluation.checkpoints import samples_file
from adaln.evaluation.samples import first_images
from adaln.report import Axis, Block, ImageGrid, Lines, Section, Series
from adaln.sampling.sampler import choose_labels
from adaln.statistics import t_interval
from adaln.studies.comparison_tables import (
    course_table,
    judged_text,
    loss_sections,
    measures_table,
    published_table,
    result_table,
    seeds_table,
    start_with,
    verdict_text,
)
from adaln.studies.judged import by_losses, by_score, changes_figure
from adaln.studies.published_numbers import PublishedTable
from adaln.studies.rows import ByLabel, Comparison, Responses, compare, data_name, study_result
from adaln.studies.study import Outcome, Result
from adaln.studies.time_to_quality import Course, common_steps, courses
from adaln.views.figures import role_histograms
from adaln.views.orders import derived_and_measured, subject_of_run
from adaln.views.scores import shown_name

REFERENCE = "adaln-zero"
SHOWN_STEPS = (0, 1, 2, 10, 100, 1_000, 10_000, 100_000)
"""Of the recorded steps; the last step of a run is shown as well."""


def compare_schemes(
    title: str, outcomes: Sequence[Outcome], *, reference: str = REFERENCE, published: PublishedTable | None = None
) -> Result:
    """The answer to "which scheme?", with what it rests on; rows are labels, compared with the row `reference`.

    Raises ValueError, naming them, where a label lacks seeds that the reference has: pairs are never made up.
    """
    return comparison_result(title, compare(outcomes, reference), published)


def comparison_result(title: str, comparison: Comparison, published: PublishedTable | None = None) -> Result:
    """A comparison's table, its verdict, and what it rests on."""
    by_scheme, reference = comparison.responses.by_label, comparison.reference
    beside = fid_courses(comparison.responses, reference)
    orders = measured_orders(by_scheme)
    first = next(iter(by_scheme.values()))[0]
    losses = by_losses(by_scheme, reference)
    judged = by_score(comparison)
    table = result_table(title, judged)
    verdict = [*verdict_text(comparison, beside), *map(judged_text, losses)]
    quoted = [published_table(comparison, published, data_name(first))] if published else []
    sections = [
        Section("Result", [*changes_figure(judged), *winner(comparison), table, *quoted]),
        *loss_sections({f"By {of.name}": of for of in losses}),
        *evidence(comparison, beside),
        Section("Other measures", [measures_table(comparison)], folded=True),
        Section("Noise and seeds needed", [seeds_table(comparison)], folded=True),
        derived_and_measured(orders, first.job.config.model),
    ]
    numbers = {
        "reference": reference,
        "seeds": [outcome.job.config.seed for outcome in by_scheme[reference]],
        "score": comparison.responses.score,
        "rows": [row.to_json() for row in comparison.rows],
        **({"held_out": {of.name: of.to_json() for of in losses}} if losses else {}),
        "over_steps": {name: _course_to_json(course) for name, course in beside.items()},
    }
    result = study_result(title, verdict, table, sections, by_scheme, numbers)
    moves = {"first_moves_at_iteration": {name: order.first for name, order in orders.items()}}
    return replace(result, more={**moves, **result.more})


def winner(comparison: Comparison) -> list[Block]:
    """How to use the row that is shown to be best, where its start has a name."""
    better = [(c.absolute.value, label) for label, c in comparison.changes.items() if c.verdict == "better"]
    if not better:
        return []
    label = min(better)[1]
    first = comparison.responses.by_label[label][0]
    scheme = first.job.config.scheme
    return [start_with(label, scheme.name, first)] if SCHEMES.get(scheme.name) == scheme else []


def measured_orders(by_scheme: ByLabel) -> dict[str, UpdateOrder]:
    """Which weights of a fresh network have moved by which iteration, by scheme."""
    fresh = {name: runs[0].run for name, runs in by_scheme.items()}
    return {name: subject_of_run(run).order(run.config.scheme) for name, run in fresh.items()}


def fid_courses(responses: Responses, reference: str) -> dict[str, Course]:
    """Every scheme beside the reference over the scored steps; none for a single step or a single seed."""
    fid = {
        name: [{step: scores["fid"].value for step, scores in seed.items()} for seed in seeds]
        for name, seeds in responses.by_step.items()
    }
    return courses(fid, reference) if len(common_steps(fid)) > 1 and len(fid[reference]) > 1 else {}


def _course_to_json(course: Course) -> dict[str, Any]:
    reached = [[at.low, at.high] for at in course.reached]
    named = {"difference_at": course.gaps, "as_good_from_step": reached, "speed_up": course.speed_up}
    return {"verdict": course.verdict, **named}


def evidence(comparison: Comparison, beside: Mapping[str, Course]) -> list[Section]:
    """What happened on the way: curves, every scheme beside the reference, samples, distributions."""
    by_scheme, reference, score = comparison.responses.by_label, comparison.reference, comparison.responses.score
    return [
        Section("Samples", grids(by_scheme)),
        Section("Over training", curves(by_scheme)),
        *([_sooner_or_later(beside, reference, score)] if beside else []),
        Section("Gate, scale and shift over training", role_blocks(by_scheme), folded=True),
    ]


def _sooner_or_later(beside: Mapping[str, Course], reference: str, score: str) -> Section:
    blocks: list[Block] = [course_table(beside, reference, score), gaps_figure(beside, reference, score)]
    return Section("Time to quality", blocks, folded=True)


def role_blocks(by_scheme: ByLabel) -> list[Block]:
    """Distributions of gate, scale and shift of every scheme's first seed, and what the first updates left of them."""
    first = next(iter(by_scheme.values()))[0]
    config = first.job.config
    recordings = {name: runs[0].recording() for name, runs in by_scheme.items()}
    shown = sorted({*SHOWN_STEPS, config.steps})
    return [*forgetting(recordings, config.optim.lr), *role_histograms(recordings, shown, config.seed)]


def forgetting(recordings: Mapping[str, Sequence[RoleRecord]], lr: float) -> list[str]:
    """How much of a small random start is left after two updates, in words; nothing where no scheme starts so."""
    lines = []
    for name, recording in recordings.items():
        stds = {r.step: r.moments.std for r in recording if r.group.name == "gate" and r.group.depth is None}
        start, soon = stds.get(0), stds.get(2)
        if start and soon and start < lr:
            lines.append(
                f"Adam moves a weight by up to the learning rate, {lr:g}, in its first step. {name} starts its gates"
                f" with std {start:.1e}; after two updates it is {soon:.1e}: at this learning rate such a start is all"
                " but overwritten at once. The paper trains at 1e-4."
            )
    return lines


def curves(by_scheme: ByLabel) -> list[Lines]:
    """Scores and training loss against steps."""
    runs = next(iter(by_scheme.values()))
    seeds, batch, scores = len(runs), runs[0].job.config.batch_size, next(iter(runs[0].scores().values()))
    score = shown_name("fid", scores)
    loss = Lines(
        "Training loss",
        f"Mean over {seeds} seeds (n = {seeds}) of the loss on {batch} images per step, averaged between log steps.",
        Axis("step", "optimiser updates", "log"),
        Axis("loss", "mean squared error + bound in bits", "log"),
        [mean_series(name, outcomes, Outcome.losses) for name, outcomes in by_scheme.items()],
    )
    fid = Lines(
        f"{score} against steps",
        f"Mean over {seeds} seeds (n = {seeds}); the band is the least and the greatest of them. EMA weights;"
        f" {scores['fid'].label}.",
        Axis("step", "optimiser updates"),
        Axis(score, "lower is better", "log"),
        [mean_series(name, outcomes, partial(score_by_step, "fid"), band=True) for name, outcomes in by_scheme.items()],
    )
    return [fid, loss]


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


def gaps_figure(courses: Mapping[str, Course], reference: str, score: str) -> Lines:
    """Every scheme's paired difference from the reference against steps, with simultaneous bands."""
    seeds = len(next(iter(courses.values())).reached)
    caption = (
        f"Mean paired difference over n = {seeds} seeds; the bands hold for all steps and schemes together (Bonferroni,"
        f" 95 %), and the widest run out of the frame. Below 0 the scheme is ahead of {reference}."
    )
    series = [Series.of(name, list(course.gaps), list(course.gaps.values())) for name, course in courses.items()]
    axis = Axis(f"difference in {score}", "points")
    return Lines(
        f"Minus {reference} against steps", caption, Axis("step", "optimiser updates"), axis, series, apart=True
    )


def grids(by_scheme: ByLabel) -> list[ImageGrid]:
    """Real images, and under them a row of samples per scheme: the same seeds and classes in every row."""
    first = {name: outcomes[0] for name, outcomes in by_scheme.items()}
    shown = next(iter(first.values()))
    job, data = shown.job, shown.run.dataset
    count = min(10, job.sample.num_images)
    classes = choose_labels(job.sample, data.spec.num_classes)[:count].tolist() if data.spec.num_classes else []
    rows = {}
    for name, outcome in first.items():
        file = samples_file(outcome.run, outcome.job.scoring, outcome.job.score_at[-1])
        rows[name] = first_images(file, count, count)[0][0]
    if data.describe_latents() is None:
        rows = {"real": _real_images(data, classes or [0] * count)} | rows
    caption = (
        f"{count} of {job.sample.num_images} samples per scheme after {job.config.steps} steps, training seed"
        f" {job.config.seed}; a column has the same noise and the same class in every row, not chosen by eye."
    )
    labels = [data.class_names[label] for label in classes]
    return [ImageGrid("Samples of each scheme", caption, np.stack(list(rows.values())), list(rows), labels)]


def _real_images(data: Dataset, classes: Sequence[int]) -> UInt8[np.ndarray, "n H W C"]:
    """The first of each of these classes, then the second, ..."""
    nth = [classes[:i].count(label) for i, label in enumerate(classes)]
    rows = [np.flatnonzero(data.labels == label) for label in classes]
    return data.images[
        np.array([of_class[n % len(of_class)] for of_class, n in zip(rows, nth, strict=True)])
    ].transpose(0, 2, 3, 1)
