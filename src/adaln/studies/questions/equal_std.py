"""Is it the Gaussian, or only its spread? Starts of one standard deviation and different shapes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from torch import Tensor

from adaln.analysis import Group, Sketch
from adaln.analysis.distributions import sketches
from adaln.analysis.fit import ROLES
from adaln.analysis.groups import role_rows
from adaln.conditioning import Distribution, Scheme, Start
from adaln.conditioning.distributions import Laplace, Quantiles, Sign, TruncatedNormal, Uniform, quantile_levels
from adaln.report import Axis, Histograms, Intervals, Measurement, Panel, Ridge, Section
from adaln.report import Group as Points
from adaln.statistics import Difference, t_interval
from adaln.studies.compare import comparison_result
from adaln.studies.rows import Responses, compare, room
from adaln.studies.study import Job, Outcome, Result, Setting, Study

STD = 1e-3
NORMAL, TRAINED = "normal", "shuffled trained"
FAMILIES: Mapping[str, Callable[[float], Distribution]] = {
    "truncated normal": TruncatedNormal,
    "uniform": Uniform,
    "Laplace": Laplace,
    "±std": Sign,
}
LEVELS = 257
"""Quantiles that stand for the shape of trained weights."""
TITLE = "Starts of equal std: is it the Gaussian or only the spread?"


def of_family(name: str, family: Callable[[float], Distribution]) -> Scheme:
    """Gate, scale and shift from one family at the common std."""
    start = Start(family(STD))
    return Scheme(f"adaln-equal-std-{name}", start, start, start, note=f"{name}, std {STD:g}")


def shuffled_starts(outcomes: Sequence[Outcome]) -> list[Job]:
    """For every seed a run whose start has the shape of the weights that its adaLN-Zero run ended with."""
    jobs = []
    for pilot in (outcome for outcome in outcomes if outcome.job.label == "adaln-zero"):
        config = pilot.job.config
        scheme = shuffled(pilot.weights())
        name = config.name.replace("adaln-zero", scheme.name)
        jobs.append(replace(pilot.job, label=TRAINED, config=replace(config, name=name, scheme=scheme)))
    return jobs


def shuffled(weights: Mapping[str, Tensor]) -> Scheme:
    """Every role drawn from its own trained values over all blocks, centred, at the common std.

    A role that training has not moved is the constant that it was: shuffled, it starts at zero.
    """
    of_roles = sketches(weights, role_rows)
    gate, scale, shift = (_start_like(of_roles[Group(role)]) for role in ROLES)
    return Scheme("adaln-equal-std-trained", gate, scale, shift, note=f"shape of trained weights, std {STD:g}")


def _start_like(values: Sketch) -> Start:
    if not values.m2:
        return Start()
    quantiles = values.quantiles(np.array(quantile_levels(LEVELS))) - values.mean
    times = STD / Quantiles(tuple(quantiles.tolist())).std
    return Start(Quantiles(tuple(float(f"{times * value:.6g}") for value in quantiles)))


def reduce(outcomes: Sequence[Outcome]) -> Result:
    """The comparison with the normal start, led by what the other shapes say."""
    comparison = compare(outcomes, NORMAL)
    responses, score = comparison.responses, comparison.responses.score
    shapes = {label: change for label, change in comparison.changes.items() if label != "adaln-zero"}
    line = verdict_line(shapes, t_interval(responses.fid[NORMAL]).value, score)
    section = Section("Gaussian, or only its spread?", [_changes(shapes, score), _starts(responses)])
    return comparison_result(TITLE, comparison).led_by([line], [section], {})


def verdict_line(shapes: Mapping[str, Difference], base: float, score: str) -> str:
    """Which shapes differ from the normal of the same std, or how large a difference is left room for."""
    if differing := [name for name, change in shapes.items() if change.distinguishable]:
        return f"At std {STD:g} the shape matters: {', '.join(differing)} differ from the normal start by {score}."
    most = room(change.absolute for change in shapes.values())
    return (
        f"At std {STD:g} no shape is told apart from the normal one, so nothing here speaks for the Gaussian as such."
        f" The intervals leave room for differences of up to {most:.2f} points of {score} ({100 * most / base:.1f} %)."
    )


def _changes(shapes: Mapping[str, Difference], score: str) -> Intervals:
    points = [Measurement.of(change.absolute) for change in shapes.values()]
    caption = (
        f"{score} of every shape minus that of the normal start, both at std {STD:g}, paired over seeds; intervals hold"
        " for all rows of the table together. Left of 0 is better."
    )
    axis = Axis(f"difference in {score}", "points")
    return Intervals("Other shapes against the normal", caption, axis, list(shapes), [Points(score, points)])


def _starts(responses: Responses) -> Histograms:
    """The gates of every shape as they start."""
    ridges, count = [], 0
    for label, runs in responses.by_label.items():
        for r in runs[0].recording():
            if r.step == 0 and r.group == Group("gate") and r.moments.std:
                note = f"std {r.moments.std:.1e}, excess kurtosis {r.moments.excess_kurtosis:+.1f}"
                ridges.append(Ridge(label, r.histogram.edges, r.histogram.counts, note))
                count = r.moments.elements
    caption = f"All {count:,} gate weights W_α before the first update, one seed; every ridge scaled to its own peak."
    return Histograms("The starts", caption, Axis("weight"), [Panel("W_α", ridges)], columns=1)


EQUAL_STD = Study(
    name="equal-std",
    title=TITLE,
    settings=(
        Setting("adaln-zero", "adaln-zero"),
        Setting(NORMAL, "adaln-gaussian"),
        *(Setting(name, of_family(name, family)) for name, family in FAMILIES.items()),
    ),
    reduce=reduce,
    then=shuffled_starts,
)
