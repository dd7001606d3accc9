"""Time to quality: how much sooner a scheme is as good as the reference ends, and whether the reference catches up."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from statistics import median

from adaln.statistics import LEVEL, Interval, t_interval

Curve = Mapping[int, float]
"""A score by step, of one seed; lower is better."""
NO_DIFFERENCE = "no difference seen"


@dataclass(frozen=True, slots=True)
class Range:
    """A number that is known to lie between two: the same one twice where it is known, 0 or infinity where censored."""

    low: float
    high: float

    @property
    def known(self) -> bool:
        return self.low == self.high


@dataclass(frozen=True, slots=True)
class Course:
    """A scheme beside the reference over all of training, on the same seeds."""

    gaps: Mapping[int, Interval]
    """Scored step -> mean paired difference; the intervals of all steps and schemes hold together (Bonferroni)."""
    reached: tuple[Range, ...]
    """For each seed the step from which the scheme is as good as the reference ends."""
    speed_ups: tuple[Range, ...]
    """For each seed the reference's last step over that step."""
    speed_up: Interval | None
    """Geometric mean over seeds, interval of all schemes together; None where a seed is censored."""

    @property
    def verdict(self) -> str:
        """Who is ahead from when to when, as far as the intervals tell."""
        return trajectory({step: (gap.low > 0) - (gap.high < 0) for step, gap in self.gaps.items()})


def common_steps(curves: Mapping[str, Sequence[Curve]]) -> list[int]:
    """The steps at which every seed of every scheme is scored."""
    return sorted(set.intersection(*(set(curve) for seeds in curves.values() for curve in seeds)))


def courses(curves: Mapping[str, Sequence[Curve]], reference: str) -> dict[str, Course]:
    """Every scheme but the reference beside it, over their common steps; the seeds of each stand in the same order."""
    steps = common_steps(curves)
    theirs = [{step: curve[step] for step in steps} for curve in curves[reference]]
    others = {name: seeds for name, seeds in curves.items() if name != reference}
    by_name = {}
    for name, seeds in others.items():
        pairs = list(zip([{step: curve[step] for step in steps} for curve in seeds], theirs, strict=True))
        reached = tuple(as_good_from(ours, reference[steps[-1]]) for ours, reference in pairs)
        speed_ups = tuple(Range(steps[-1] / at.high, steps[-1] / at.low if at.low else math.inf) for at in reached)
        confidence = 1 - LEVEL / (len(steps) * len(others))
        gaps = {step: t_interval([ours[step] - their[step] for ours, their in pairs], confidence) for step in steps}
        by_name[name] = Course(gaps, reached, speed_ups, geometric_mean(speed_ups, 1 - LEVEL / len(others)))
    return by_name


def as_good_from(curve: Curve, target: float) -> Range:
    """The step from which a curve is at or below `target` and stays there, as far as it was scored.

    A lucky checkpoint between worse ones does not count. Between two scored steps the score is taken as linear in the
    logarithm of the step. Censored: (0, first step) where all scores are as good, (last step, infinity) where the last
    is not.
    """
    steps = sorted(curve)
    worse = [i for i, step in enumerate(steps) if not curve[step] <= target]
    if not worse:
        return Range(0.0, steps[0])
    if worse[-1] == len(steps) - 1:
        return Range(steps[-1], float("inf"))
    before, after = steps[worse[-1]], steps[worse[-1] + 1]
    way = (curve[before] - target) / (curve[before] - curve[after])
    step = before * (after / before) ** way
    return Range(step, step)


def geometric_mean(ratios: Sequence[Range], confidence: float) -> Interval | None:
    """Geometric mean with a t interval of the logarithms; None where a ratio is censored."""
    if not all(ratio.known for ratio in ratios):
        return None
    logs = t_interval([math.log(ratio.low) for ratio in ratios], confidence)
    return Interval(*(math.exp(end) if end < 700 else math.inf for end in (logs.value, logs.low, logs.high)))


def middle(ranges: Sequence[Range]) -> Range:
    """Bounds of the median, known as soon as the middle is: it takes no part of what is censored on either side."""
    return Range(median(r.low for r in ranges), median(r.high for r in ranges))


def trajectory(signs: Mapping[int, int]) -> str:
    """Signs of a difference by step (-1 ahead, 1 behind, 0 not told apart) in words.

    >>> trajectory({250: -1, 500: -1, 1000: 0})
    'ahead from step 250 to 500, not distinguishable at the end'
    >>> trajectory({250: -1, 500: 0, 1000: 1})
    'crosses between step 250 and 1,000: ahead at step 250, behind at the end'
    """
    steps = sorted(signs)
    phases = [(sign, list(group)) for sign, group in groupby(steps, signs.__getitem__)]
    if len(phases) == 1:
        return {-1: "ahead throughout", 0: NO_DIFFERENCE, 1: "behind throughout"}[phases[0][0]]
    words = ", ".join(_phase_words(phases))
    clear = [(sign, phase) for sign, phase in phases if sign]
    turns = [(a[-1], b[0]) for (was, a), (becomes, b) in pairwise(clear) if was != becomes]
    crossings = " and ".join(f"between step {a:,} and {b:,}" for a, b in turns)
    return f"crosses {crossings}: {words}" if turns else words


def _phase_words(phases: Sequence[tuple[int, list[int]]]) -> Iterator[str]:
    for sign, steps in phases:
        ends = steps == phases[-1][1]
        if sign:
            when = f"from step {steps[0]:,} to {'the end' if ends else f'{steps[-1]:,}'}"
            if len(steps) == 1:
                when = "at the end" if ends else f"at step {steps[0]:,}"
            yield f"{'ahead' if sign < 0 else 'behind'} {when}"
        elif ends:
            yield "not distinguishable at the end"
