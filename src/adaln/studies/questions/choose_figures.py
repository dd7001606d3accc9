"""A choice of starts as pictures: changes, the race seed by seed, curves, and how early the order was to be seen."""

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Literal

import numpy as np

from adaln.report import Axis, Cell, Column, Group, Intervals, Lines, Measurement, Series, Table
from adaln.sequential import FIRST_LOOK, race
from adaln.statistics import Interval
from adaln.studies.compare import mean_series
from adaln.studies.questions.choose import Chosen, judged_at
from adaln.studies.questions.choose_question import is_logged
from adaln.studies.study import Outcome


def direction(chosen: Chosen) -> str:
    """In which one what is judged is better."""
    return f"{'higher' if chosen.standing.more_is_better else 'lower'} is better"


def changes_figure(chosen: Chosen, score: str) -> Intervals:
    """The change of every start against the reference, with its interval and each seed."""
    standing, reference = chosen.standing, chosen.reference
    names = [name for name in chosen.starts if name != reference and isfinite(standing.change(name).high)]
    names = sorted(names, key=lambda name: standing.change(name).value, reverse=standing.more_is_better)
    values = [Measurement.of(standing.change(name), 100) for name in names]
    pairs = [zip(chosen.scores[name], chosen.scores[reference], strict=False) for name in names]
    seeds = [[100 * (ours / theirs - 1) for ours, theirs in pair] for pair in pairs]
    caption = (
        f"Relative change of {score} against {reference} over n = {FIRST_LOOK} to {standing.seeds} paired seeds (small"
        f" dots); all intervals hold together (95 %). {'Right' if standing.more_is_better else 'Left'} of 0 is better."
    )
    title, group = f"Change against {reference}", Group(f"against {reference}", values, seeds)
    better: Literal["above", "below"] = "above" if standing.more_is_better else "below"
    return Intervals(title, caption, Axis("change", "%"), names, [group], better=better)


def race_figure(chosen: Chosen) -> Lines | None:
    """Of every start but the reference, where it was looked at twice, the change after each seed, with its interval."""
    standing, reference = chosen.standing, chosen.reference
    planned, margin, more = chosen.plan.seeds, chosen.asked.choice.rules.margin, standing.more_is_better
    looks = [
        race({name: values[:seeds] for name, values in chosen.scores.items()}, reference, planned, margin, more)
        for seeds in range(FIRST_LOOK, standing.seeds + 1)
    ]
    series = []
    for name in chosen.starts:
        last = min(standing.left.get(one, ("", standing.seeds))[1] for one in (name, reference))
        seen = [look for look in looks if look.seeds <= last]
        if name == reference or len(seen) < 2 or not isfinite(standing.change(name).high):
            continue
        changes = [look.change(name) for look in seen]
        percent = [Interval(100 * c.value, 100 * c.low, 100 * c.high) for c in changes]
        series.append(Series.of(name, [look.seeds for look in seen], percent))
    caption = (
        f"Relative change against {reference} after n = {FIRST_LOOK} to {standing.seeds} paired seeds; the bands hold"
        " for all starts and all looks together (95 %), and the widest run out of the frame."
        f" {'Above' if more else 'Below'} 0 a start is better."
    )
    title = "The race, seed by seed"
    return Lines(title, caption, Axis("seeds"), Axis("change", "%"), series, apart=True) if series else None


def loss_curves(outcomes: Mapping[str, Sequence[Outcome]]) -> Lines:
    """Training loss against steps, of starts that need not have equally many seeds."""
    counts = sorted({len(runs) for runs in outcomes.values()})
    number = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    caption = f"Mean over the seeds of each start (n = {number}), averaged between log steps."
    series = [mean_series(name, runs, Outcome.losses) for name, runs in outcomes.items()]
    return Lines("Training loss", caption, Axis("step", "optimiser updates", "log"), Axis("loss", "", "log"), series)


def means_over_steps(chosen: Chosen, outcomes: Mapping[str, Sequence[Outcome]]) -> dict[int, dict[str, float]]:
    """By step at which all were judged, the means of the starts over the seeds that all of them have."""
    seeds, job = min(len(runs) for runs in outcomes.values()), next(iter(outcomes.values()))[0].job
    end, by = job.config.steps, chosen.asked.choice.rules.by
    steps = job.score_at or job.loss_at
    if by == "loss":  # which takes no checkpoint
        steps = tuple(step for step in (end // 4, end // 2, end) if step and is_logged(job.config, step))
    return {
        step: {
            name: float(np.mean([judged_at(run, by, step) for run in runs[:seeds]])) for name, runs in outcomes.items()
        }
        for step in steps
    }


def order_moved(means: Mapping[int, Mapping[str, float]], more_is_better: bool, score: str) -> list[str]:
    """A sentence where another start had the best mean at the look before the last: longer runs may say otherwise."""
    if len(means) < 2:
        return []
    best = max if more_is_better else min
    (before, then), (end, now) = [*means.items()][-2:]
    led, leads = best(then, key=then.__getitem__), best(now, key=now.__getitem__)
    if led == leads:
        return []
    moved = f"the {score} of {leads} went from {then[leads]:.3g} to {now[leads]:.3g}"
    return [f"Longer runs may say otherwise: at step {before:,} {led} was ahead of {leads}; by step {end:,} {moved}."]


def order_over_steps(chosen: Chosen, outcomes: Mapping[str, Sequence[Outcome]]) -> Table | None:
    """Whether the order of the starts at the end was to be seen before, over the seeds that all of them have."""
    seeds, all_means = min(len(runs) for runs in outcomes.values()), means_over_steps(chosen, outcomes)
    steps = [*all_means]
    if len(steps) < 2 or len(outcomes) < 3:
        return None
    sign = -1 if chosen.standing.more_is_better else 1
    means = {step: [sign * mean for mean in of_starts.values()] for step, of_starts in all_means.items()}
    ranks = {step: np.argsort(np.argsort(values)) for step, values in means.items()}
    end = ranks[steps[-1]]
    rows: list[list[Cell]] = [
        [
            step,
            float(np.corrcoef(rank, end)[0, 1]),
            " < ".join(np.array(list(outcomes))[np.argsort(means[step])].tolist()),
        ]
        for step, rank in ranks.items()
    ]
    stable = next(step for i, step in enumerate(steps) if all((ranks[later] == end).all() for later in steps[i:]))
    columns = [
        Column("step", format=",d"),
        Column("rank correlation", "with the end", ".2f"),
        Column("order", "best first"),
    ]
    notes = [
        f"By means over the first {seeds} seeds of every start: from step {stable:,} on the order is that of the end."
    ]
    return Table("Was the order to be seen before the end?", columns, rows, notes)
