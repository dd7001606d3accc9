"""The numbers behind a figure of distributions: spread, shape and entropy at every timestamp, over all seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from adaln.report import Cell, Column, Measurement, Table
from adaln.statistics import t_interval
from adaln.studies.study import Outcome
from adaln.tensors import TensorFile
from adaln.views.figures import Names
from adaln.views.snapshots import Snapshot, View, snapshot

SeedSnapshots = Mapping[int, Sequence[Snapshot]]


@dataclass(frozen=True, slots=True)
class Shape:
    """One distribution at one timestamp: a value per seed for each number, None where all weights are alike."""

    scheme: str
    what: str
    block: str | None
    stamp: str
    """The paper's timestamp, e.g. "10,000 steps"."""
    step: int
    std: tuple[float, ...]
    skewness: tuple[float | None, ...]
    kurtosis: tuple[float | None, ...]
    """Excess: 0 for a Gaussian, negative for two humps."""
    distance: tuple[float | None, ...]
    """Kolmogorov-Smirnov, to the Gaussian of the same mean and std."""
    entropy: tuple[float | None, ...]
    """Differential, in nats."""


def weights_at(outcome: Outcome) -> TensorFile:
    """The weights in training at the job's last step, read when used."""
    return TensorFile(outcome.run.folder(outcome.job.config.steps) / "model.safetensors")


def snapshots_by_seed(outcomes: Sequence[Outcome]) -> dict[int, list[Snapshot]]:
    """Every scheme at every timestamp, for each seed; timestamps that fall on one step are seen once."""
    by_seed: dict[int, dict[tuple[str, int], Snapshot]] = {}
    for outcome in sorted(outcomes, key=lambda one: (one.job.config.seed, one.job.config.steps)):
        key = (outcome.job.label, outcome.job.config.steps)
        of_seed = by_seed.setdefault(outcome.job.config.seed, {})
        if key not in of_seed:
            of_seed[key] = snapshot(*key, weights_at(outcome))
    labels = list(dict.fromkeys(outcome.job.label for outcome in outcomes))
    return {seed: sorted(one.values(), key=lambda s: labels.index(s.source)) for seed, one in by_seed.items()}


def measure_shapes(outcomes: Sequence[Outcome], by_seed: SeedSnapshots, names: Names, by_block: bool) -> list[Shape]:
    """The numbers of every quantity, scheme and timestamp; by block of the last timestamp alone."""
    stamps = dict.fromkeys((o.job.label, o.job.group, o.job.config.steps) for o in outcomes)
    last = max(step for _, _, step in stamps)
    measured = []
    for scheme, stamp, step in stamps:
        if by_block and step < last:
            continue
        seeds = [next(s for s in seed if (s.source, s.step) == (scheme, step)) for seed in by_seed.values()]
        for what in names.values():
            blocks = seeds[0].by_block(what) if by_block else {None: seeds[0].view(what)}
            for block in blocks:
                views = [s.by_block(what)[block] if block else s.view(what) for s in seeds]
                measured += [_shape(scheme, what, block, stamp, step, [view for view in views if view])] * all(views)
    return measured


def _shape(scheme: str, what: str, block: str | None, stamp: str, step: int, views: Sequence[View]) -> Shape:
    summaries = [view.summary for view in views if view.summary]
    moments = [view.moments for view in views]
    return Shape(
        *(scheme, what, block, stamp, step),
        std=tuple(m.std or 0.0 for m in moments),
        skewness=tuple(m.skewness for m in moments),
        kurtosis=tuple(m.excess_kurtosis for m in moments),
        distance=tuple(s.gaussian.ks_distance if s.gaussian else None for s in summaries),
        entropy=tuple(s.entropy.nats for s in summaries),
    )


def number_table(title: str, shapes: Sequence[Shape]) -> Table:
    """The numbers, each a mean over seeds with its interval; timestamps that fall on one step are one row."""
    shapes = list({(one.scheme, one.what, one.block, one.step): one for one in shapes}.values())
    by_block = any(one.block for one in shapes)
    columns = [Column("scheme"), Column("values"), *[Column("block")] * by_block, Column("step", format=",d")]
    columns += [
        Column("std", format=".2e"),
        Column("kurtosis", "excess", ".2f"),
        Column("KS", format=".3f"),
        Column("entropy", "nats", ".3f"),
    ]
    rows: list[list[Cell]] = [
        [one.scheme, one.what, *[one.block] * by_block, one.step, *map(over_seeds, _numbers(one))] for one in shapes
    ]
    seeds = len(shapes[0].std) if shapes else 0
    notes = [
        f"Mean over {seeds} seeds, 95 % t intervals in brackets. Weights in training, not averaged ones. KS: distance"
        " to the Gaussian of the same mean and std; entropy: differential. –: all values are alike."
    ]
    return Table(title, columns, rows, notes)


def _numbers(one: Shape) -> tuple[Sequence[float | None], ...]:
    return one.std, one.kurtosis, one.distance, one.entropy


def over_seeds(values: Sequence[float | None]) -> Measurement | None:
    """Mean with interval; None where a seed has no such number."""
    known = [value for value in values if value is not None]
    if len(known) < len(values) or not known:
        return None
    return Measurement.of(t_interval(known))


def mean(values: Sequence[float | None]) -> float | None:
    """Mean over seeds; None where a seed has no such number."""
    known = [value for value in values if value is not None]
    return fmean(known) if known and len(known) == len(values) else None


def as_data(shapes: Sequence[Shape]) -> list[dict[str, Any]]:
    """Plain rows, a list per number with a value per seed."""
    names = ("scheme", "what", "block", "stamp", "step", "std", "skewness", "kurtosis", "distance", "entropy")
    return [{name: _plain(getattr(one, name)) for name in names} for one in shapes]


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
