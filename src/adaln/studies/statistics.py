"""What a few seeds can and cannot tell: t intervals, paired differences, a plain verdict."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over seeds with its t interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Difference:
    """A paired difference against the reference on the same seeds."""

    absolute: Interval
    relative: float
    """Mean difference over the reference's mean."""
    distinguishable: bool
    """Whether the interval, widened for the number of comparisons, excludes 0."""


def t_interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """Mean and Student's t interval of independent values; infinite for a single one."""
    mean = fmean(values)
    if len(values) < 2:
        return Interval(mean, float("-inf"), float("inf"))
    half = _t_quantile((1 + confidence) / 2, len(values) - 1) * stdev(values) / len(values) ** 0.5
    return Interval(mean, mean - half, mean + half)


def paired_difference(values: Sequence[float], reference: Sequence[float], num_comparisons: int = 1) -> Difference:
    """Difference of two schemes over the same seeds, in the same order.

    The interval holds at 95 % for all `num_comparisons` together (Bonferroni): with more schemes, one of them looks
    different by chance more easily.
    """
    if len(values) != len(reference):
        raise ValueError(f"paired values need the same seeds: got {len(values)} and {len(reference)}")
    differences = [a - b for a, b in zip(values, reference, strict=True)]
    interval = t_interval(differences, 1 - 0.05 / num_comparisons)
    relative = interval.mean / fmean(reference) if fmean(reference) else float("nan")
    return Difference(interval, relative, not interval.low <= 0 <= interval.high)


def _t_quantile(probability: float, degrees: int) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(degrees, probability))
