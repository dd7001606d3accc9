"""Held-out losses as tables: each with its interval, beside the first where they may be compared."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from adaln.codec import encode
from adaln.evaluation.held_out import HeldOutLoss
from adaln.evaluation.samples import WEIGHTS
from adaln.report import Axis, Block, Cell, Column, Lines, Measurement, Series, Table
from adaln.specs import WeightSet
from adaln.statistics import Difference, paired_differences

Losses = Mapping[str, HeldOutLoss]
"""By the name of the run, all of the same set of weights."""


def changes(losses: Losses) -> dict[str, Difference]:
    """What each differs by from the first, over the same pictures in the same trials, where both have them."""
    name, first = next(iter(losses.items()))
    values = {other: loss.as_trained for other, loss in losses.items() if not first.differences(loss)}
    return paired_differences(values, name)


def loss_tables(by_weights: Mapping[WeightSet, Losses]) -> list[Table]:
    """A row for each run and set of weights, and all of them at each of the equidistant times."""
    rows: list[list[Cell]] = []
    at_each: list[list[Cell]] = []
    for weights, losses in by_weights.items():
        changed, (first, *_), words = changes(losses), losses.values(), WEIGHTS[weights].removesuffix(" weights")
        for name, loss in losses.items():
            means = Measurement.of(loss.mean), Measurement.of(loss.mean_at_times)
            change = changed.get(name)
            beside: list[Cell] = [Measurement.of(change.absolute), change.verdict] if change else [None, None]
            if differs := first.differences(loss):
                beside = [None, f"not comparable: {', '.join(differs)}"]
            rows.append([name, loss.step, words, *means, *(beside if len(losses) > 1 else ())])
            at_each.append([name, words, *loss.by_time])
    any_loss = next(iter(next(iter(by_weights.values())).values()))
    return [_means(rows, any_loss), _by_time(at_each, any_loss)]


def _means(rows: list[list[Cell]], loss: HeldOutLoss) -> Table:
    columns = [
        Column("run"),
        Column("step", format=",d"),
        Column("weights"),
        Column("loss ↓", "times as in training", ".4f"),
        Column(f"loss ↓, {len(loss.times)} equidistant times", format=".4f"),
        Column("change", "from the first run", "+.5f"),
        Column("verdict"),
    ]
    notes = [_of_pictures(loss)]
    if len(rows[0]) == len(columns):
        notes.append(
            "Change: over the same pictures in the same trials; intervals of one set of weights hold together"
            " (Bonferroni). They say nothing of other training seeds: adaln study does."
        )
    return Table("Held-out loss", columns[: len(rows[0])], rows, notes)


def _by_time(rows: list[list[Cell]], loss: HeldOutLoss) -> Table:
    columns = [Column("run"), Column("weights"), *(Column(f"t = {t:.4g}", format=".4f") for t in loss.times)]
    return Table("At each of the equidistant times", columns, rows)


def loss_blocks(losses: Sequence[HeldOutLoss]) -> list[Block]:
    """Of each set of pictures a table by step and, from two steps on, the curves of both sets of weights."""
    blocks: list[Block] = []
    for pictures in dict.fromkeys(loss.pictures for loss in losses):
        alike = [loss for loss in losses if loss.pictures == pictures]
        blocks.append(course_table(alike))
        if len({loss.step for loss in alike}) > 1:
            blocks.append(_curves(alike))
    return blocks


def course_table(losses: Sequence[HeldOutLoss]) -> Table:
    """A row per step and set of weights, all of one run and on the same pictures."""
    columns = [
        Column("step", format=",d"),
        Column("weights"),
        Column("loss ↓", "times as in training", ".4f"),
        Column(f"loss ↓, {len(losses[0].times)} equidistant times", format=".4f"),
    ]
    rows: list[list[Cell]] = [
        [loss.step, WEIGHTS[loss.weights], Measurement.of(loss.mean), Measurement.of(loss.mean_at_times)]
        for loss in losses
    ]
    return Table("Held-out loss", columns, rows, [_of_pictures(losses[0])])


def _curves(losses: Sequence[HeldOutLoss]) -> Lines:
    series = []
    for weights in dict.fromkeys(loss.weights for loss in losses):
        means = {loss.step: loss.mean for loss in losses if loss.weights == weights}
        series.append(Series.of(WEIGHTS[weights], list(means), list(means.values())))
    axes = Axis("step", "optimiser updates"), Axis("held-out loss", "lower is better", "log")
    return Lines("Held-out loss against steps", f"{_of_pictures(losses[0])} The bands are these.", *axes, series)


def _of_pictures(loss: HeldOutLoss) -> str:
    return (
        f"Loss of the process, as in training, on {len(loss.as_trained):,} pictures that were not learned from; the"
        " same noise and times for every run, guidance off. Brackets: 95 % t intervals over pictures."
    )


def as_data(by_weights: Mapping[WeightSet, Losses]) -> dict[str, Any]:
    """The same as plain values: every loss, its mean, and its paired change from the first run's."""
    parts: dict[str, Callable[[Losses], dict[str, Any]]] = {
        "losses": lambda losses: {name: encode(loss) for name, loss in losses.items()},
        "means": lambda losses: {name: asdict(loss.mean) for name, loss in losses.items()},
        "changes": lambda losses: {name: asdict(change) for name, change in changes(losses).items()},
        "not_comparable": _not_comparable,
    }
    return {part: {weights: of(losses) for weights, losses in by_weights.items()} for part, of in parts.items()}


def _not_comparable(losses: Losses) -> dict[str, list[str]]:
    first, *_ = losses.values()
    return {name: list(differs) for name, loss in losses.items() if (differs := first.differences(loss))}
