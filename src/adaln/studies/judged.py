"""Rows held against a reference by one number of every run: the score, or the loss on what no run learned from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from statistics import fmean
from typing import Any

from adaln.evaluation.held_out import WEIGHTS
from adaln.evaluation.samples import WEIGHTS as NAMES
from adaln.report import Axis, Group, Intervals, Measurement
from adaln.statistics import Difference, Interval, paired_differences
from adaln.studies.rows import ByLabel, Comparison, over_seeds, plain_difference


@dataclass(frozen=True, slots=True)
class Judged:
    """One number of every run, less of which is better, over the same seeds in every row."""

    name: str
    about: str
    """What a reader must know of it."""
    reference: str
    values: Mapping[str, Sequence[float]]
    """Row -> of each seed."""
    changes: Mapping[str, Difference]
    """By the labels of all rows but the reference; their verdicts hold together."""
    digits: int

    @property
    def num_seeds(self) -> int:
        return len(self.values[self.reference])

    def to_json(self) -> dict[str, Any]:
        """For machines."""
        return {
            "rows": {label: {**over_seeds(values), "per_seed": values} for label, values in self.values.items()},
            "differences": {label: plain_difference(change) for label, change in self.changes.items()},
        }


def by_score(comparison: Comparison) -> Judged:
    """By the score that the rows are compared in."""
    responses, reference = comparison.responses, comparison.reference
    about = f"{responses.score}: in {responses.scores['fid'].label}."
    return Judged(responses.score, about, reference, responses.fid, comparison.changes, digits=1)


def by_losses(by_label: ByLabel, reference: str) -> list[Judged]:
    """By the held-out losses of averaged and of raw weights, as in training; none where a run holds nothing out."""
    losses = {label: [outcome.held_out_losses() for outcome in outcomes] for label, outcomes in by_label.items()}
    judged = []
    for weights in WEIGHTS if all(of_seed for of_row in losses.values() for of_seed in of_row) else ():
        values = {label: [of_seed[weights].mean.value for of_seed in of_row] for label, of_row in losses.items()}
        count = len(losses[reference][0][weights].as_trained)
        about = f"The loss as in training, on {count:,} pictures that no run learned from, in the same trials for all."
        changes = paired_differences(values, reference)
        judged.append(Judged(f"held-out loss, {NAMES[weights]}", about, reference, values, changes, digits=4))
    return judged


def changes_figure(judged: Judged) -> list[Intervals]:
    """The relative change of every row against the reference, with its interval and each seed."""
    if not judged.changes:
        return []
    base = judged.values[judged.reference]
    mean = fmean(base)
    ranked = sorted(judged.changes, key=lambda label: judged.changes[label].relative.value)
    values, seeds = [], []
    for label in ranked:
        values.append(in_percent(judged.changes[label].relative))
        seeds.append([100 * (ours - theirs) / mean for ours, theirs in zip(judged.values[label], base, strict=True)])
    caption = (
        f"Relative change of {judged.name} against {judged.reference}, n = {judged.num_seeds} paired seeds (small"
        " dots); the intervals hold for all together (95 %). Left of 0 is better."
    )
    title, group = f"Change against {judged.reference}", Group(f"against {judged.reference}", values, seeds)
    return [Intervals(title, caption, Axis("change", "%"), ranked, [group], better="below")]


def in_percent(relative: Interval) -> Measurement | float:
    """A relative change as figures draw it: without its interval where that has no end."""
    is_bounded = isfinite(relative.low + relative.high)
    return Measurement.of(relative, 100) if is_bounded else 100 * relative.value
