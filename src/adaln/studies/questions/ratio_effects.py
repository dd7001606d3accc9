"""How much a start changes against Zero, over std / learning rate and training, and what that says elsewhere."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import erf, log
from statistics import fmean, stdev
from typing import Any

import numpy as np

from adaln.conditioning import Start
from adaln.statistics import Difference, Interval, paired_each, t_interval, t_test
from adaln.studies.rows import Responses
from adaln.studies.study import Outcome

AS_IT_IS, ZERO = "as it is", "std 0"


@dataclass(frozen=True, slots=True)
class Effects:
    """The runs of one circumstance, and every start's change against Zero."""

    responses: Responses
    lr: float
    stds: Mapping[str, float]
    """By row."""
    changes: Mapping[int, Mapping[str, Difference]]
    """By scored step and row."""

    @property
    def updates(self) -> dict[str, float]:
        """By row: std over learning rate, how many updates undo the start."""
        return {label: std / self.lr for label, std in self.stds.items()}

    @property
    def starts(self) -> list[str]:
        """All rows but Zero's."""
        return [label for label in self.stds if label != ZERO]

    @property
    def steps(self) -> list[int]:
        return sorted(self.changes)

    def at_end(self) -> Mapping[str, Difference]:
        """The changes at the last step."""
        return self.changes[self.steps[-1]]

    def relative(self, label: str, step: int) -> list[float]:
        """Of each seed ln(score / Zero's score) at a scored step."""
        both = at(self.responses, label, step), at(self.responses, ZERO, step)
        return [log(ours / zeros) for ours, zeros in zip(*both, strict=True)]

    def as_far_as(self, other: "Effects") -> int:
        """The scored step at which these have gone nearest to as far as `other` at its end: learning rate x steps."""
        return min(self.steps, key=lambda step: abs(self.lr * step - other.lr * other.steps[-1]))


def effects_of(responses: Mapping[str, Responses]) -> dict[str, Effects]:
    """Of every circumstance; those as it is hold together over steps and starts, those elsewhere over all at a step."""
    steps = {name: sorted(of.by_step[ZERO][0]) for name, of in responses.items()}
    pairs = {
        (name, step, label): (at(of, label, step), at(of, ZERO, step))
        for name, of in responses.items()
        for step in steps[name]
        for label in of.by_label
        if label != ZERO
    }
    families: dict[Any, dict[tuple[str, int, str], Any]] = {}
    for key, pair in pairs.items():
        name, step, _ = key
        family = AS_IT_IS if name == AS_IT_IS else steps[name].index(step)
        families.setdefault(family, {})[key] = pair
    changes = {key: change for family in families.values() for key, change in paired_each(family).items()}
    return {
        name: Effects(
            of,
            of.by_label[ZERO][0].job.config.optim.lr,
            {label: std_of(runs[0]) for label, runs in of.by_label.items()},
            {
                step: {key[2]: change for key, change in changes.items() if key[:2] == (name, step)}
                for step in steps[name]
            },
        )
        for name, of in responses.items()
    }


def at(responses: Responses, label: str, step: int) -> list[float]:
    """Of each seed the score at a step."""
    return [scores[step]["fid"].value for scores in responses.by_step[label]]


def std_of(outcome: Outcome) -> float:
    """Of the gate's start, which is that of scale and shift."""
    start = outcome.job.config.scheme.gate
    return getattr(start.weight, "std", 0.0) if isinstance(start, Start) else 0.0


@dataclass(frozen=True, slots=True)
class Rules:
    """How far what two rules foretell at other learning rates is from what was found there."""

    errors: Mapping[str, float]
    """By rule: root mean square over starts, rates and seeds of what it misses, in ln of the score."""
    gain: Interval
    """Mean square missed by `in std` less that by `in updates`, over seeds: above 0 the latter foretells better."""
    p_value: float


def foretold(base: Effects, others: Sequence[Effects]) -> Rules:
    """Effects at other rates as the curve over std / lr, or that over std, has them: straight between its rungs.

    The curve is that of the step at which `base` has gone as far.
    """
    missed: dict[str, list[list[float]]] = {"in updates": [], "in std": []}
    for ours in others:
        curve = [fmean(base.relative(label, base.as_far_as(ours))) for label in base.starts]
        for label in ours.starts:
            found = ours.relative(label, ours.steps[-1])
            for rule, here, there in (
                ("in updates", base.updates, ours.updates[label]),
                ("in std", base.stds, ours.stds[label]),
            ):
                guess = between([here[one] for one in base.starts], curve, there)
                missed[rule].append([(value - guess) ** 2 for value in found])
    by_seed = {rule: [sum(seed) / len(seed) for seed in zip(*cells, strict=True)] for rule, cells in missed.items()}
    gains = [b - a for a, b in zip(by_seed["in updates"], by_seed["in std"], strict=True)]
    errors = {rule: (sum(seeds) / len(seeds)) ** 0.5 for rule, seeds in by_seed.items()}
    return Rules(errors, t_interval(gains), t_test(gains))


def between(x: Sequence[float], y: Sequence[float], where: float) -> float:
    """The curve through points of ascending `x`, straight over ln x, level beyond its ends.

    >>> between([1, 100], [0.0, 2.0], 10), between([1, 100], [0.0, 2.0], 1e6)
    (1.0, 2.0)
    """
    for (a, left), (b, right) in zip(zip(x, y, strict=True), zip(x[1:], y[1:], strict=True), strict=False):
        if where <= b:
            return left + (right - left) * max(0.0, log(where / a) / log(b / a))
    return y[-1]


@dataclass(frozen=True, slots=True)
class Luck:
    """What a published table looks like if the noise between seeds is what it is here."""

    noise: float
    """Standard deviation over seeds of ln(score / Zero's score), root mean square over the starts."""
    roughness: float
    """The table's own, as far as scores of neighbouring stds would lie on a line: root mean square of its second
    differences over sqrt 6, relative to its first row."""
    best: float
    """ln(lowest score / Zero's)."""
    chance: float
    """That the lowest of as many rows, one seed each, is as low or lower where no start does anything."""
    chance_by_roughness: float
    """The same, were the table's roughness the noise of every score."""


def luck(base: Effects, published: Sequence[float]) -> Luck:
    """`published` are scores of one seed each, Zero's first."""
    noise = fmean(stdev(base.relative(label, base.steps[-1])) ** 2 for label in base.starts) ** 0.5
    bends = [a - 2 * b + c for a, b, c in zip(published, published[1:], published[2:], strict=False)]
    roughness = (fmean(bend**2 for bend in bends) / 6) ** 0.5 / published[0]
    best = log(min(published[1:]) / published[0])
    chances = [chance_of_lowest(best / of_change, len(published) - 1) for of_change in (noise, roughness * 2**0.5)]
    return Luck(noise, roughness, best, *chances)


def chance_of_lowest(by: float, count: int) -> float:
    """Chance that the least of `count` normal values less one more is at most `by` times the std of such a difference.

    >>> round(chance_of_lowest(0.0, 1), 3), round(chance_of_lowest(0.0, 6), 3)  # that the one more is not the least
    (0.5, 0.857)
    """
    grid = np.linspace(-8, 8, 4_001)
    density = np.exp(-(grid**2) / 2) / (2 * np.pi) ** 0.5
    none_below = np.array([(1 - erf(z / 2**0.5 + by)) / 2 for z in grid]) ** count
    return float(1 - (density * none_below).sum() * (grid[1] - grid[0]))
