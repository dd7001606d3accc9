"""What a few seeds can and cannot tell: t intervals, paired differences, how many seeds it would take, effects."""

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from statistics import covariance, fmean, stdev, variance
from typing import TypeVar

Row = TypeVar("Row")
LEVEL = 0.05
"""Chance that anything at all in a family of comparisons is called different when nothing is."""
POWER = 0.8
"""Chance of seeing a difference that is there, which a number of seeds is advised for."""
MOST_SEEDS = 1_000_000
EVERYTHING = (float("-inf"), float("inf"))


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate over seeds with its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Difference:
    """A paired difference against the reference on the same seeds, as one of a family of comparisons."""

    absolute: Interval
    """Mean difference; its interval holds together with all others of the family (Bonferroni)."""
    relative: Interval
    """Mean difference over the reference's mean (Fieller), at the same level; excludes 0 when `absolute` does."""
    noise: float
    """Standard deviation of the differences over seeds; NaN for a single seed."""
    p_value: float
    """Of the paired t test, times the number of comparisons (Bonferroni): at most 5 % where `absolute` excludes 0."""

    @property
    def distinguishable(self) -> bool:
        """Whether the interval excludes 0."""
        return self.p_value <= LEVEL

    @property
    def verdict(self) -> str:
        """Better, worse or not distinguishable, where less is better."""
        if not self.distinguishable:
            return "not distinguishable"
        return "better" if self.absolute.value < 0 else "worse"


@dataclass(frozen=True, slots=True)
class Effect:
    """A main effect (one factor) or an interaction (several) of a factorial experiment."""

    factors: tuple[str, ...]
    size: Interval
    """Simultaneous for all effects (Bonferroni), in units of the response."""
    p_value: float
    """Times the number of effects (Bonferroni): at most 5 % where `size` excludes 0."""

    @property
    def name(self) -> str:
        return " x ".join(self.factors)

    @property
    def distinguishable(self) -> bool:
        return self.p_value <= LEVEL


def t_interval(values: Sequence[float], confidence: float = 1 - LEVEL) -> Interval:
    """Mean and Student's t interval of independent values; infinite for a single one."""
    mean = fmean(values)
    if len(values) < 2:
        return Interval(mean, *EVERYTHING)
    half = _t_quantile(confidence, len(values) - 1) * stdev(values) / len(values) ** 0.5
    return Interval(mean, mean - half, mean + half)


def t_test(values: Sequence[float]) -> float:
    """Two-sided p value of Student's t test that the mean is 0; 1 for a single value, which says nothing."""
    from scipy.special import stdtr

    if len(values) < 2:
        return 1.0
    mean, error = fmean(values), stdev(values) / len(values) ** 0.5
    if error == 0:
        return 0.0 if mean else 1.0
    return 2 * float(stdtr(len(values) - 1, -abs(mean) / error))


def bonferroni(p_values: Sequence[float]) -> list[float]:
    """p values times their number, 1 at most.

    Those at or below 5 % may be called different together: the chance of a false one among them is at most 5 %, however
    the tests depend on each other. They say what intervals at 1 - 5 % / m say, neither more nor less.
    """
    return [min(1.0, len(p_values) * p_value) for p_value in p_values]


def ratio_interval(numerator: Sequence[float], denominator: Sequence[float], confidence: float = 1 - LEVEL) -> Interval:
    """Ratio of the means of paired values with Fieller's interval: all R that a t test of a - R b does not reject.

    With means a, b, variances v_a, v_b, covariance c and k = t^2 / n, it lies between the roots R of
    (b^2 - k v_b) R^2 - 2 (a b - k c) R + (a^2 - k v_a) = 0. Infinite for a single pair, and where the denominator's own
    interval holds 0. The delta method would take the denominator for known.

    Source: Fieller, "Some problems in interval estimation" (1954).
    """
    a, b, n = fmean(numerator), fmean(denominator), len(numerator)
    ratio = a / b if b else float("nan")
    if n < 2:
        return Interval(ratio, *EVERYTHING)
    k = _t_quantile(confidence, n - 1) ** 2 / n
    square, constant = b * b - k * variance(denominator), a * a - k * variance(numerator)
    half_linear = a * b - k * covariance(numerator, denominator)
    if square <= 0:
        return Interval(ratio, *EVERYTHING)
    root = math.sqrt(max(half_linear**2 - square * constant, 0.0))
    return Interval(ratio, (half_linear - root) / square, (half_linear + root) / square)


def paired_differences(values: Mapping[str, Sequence[float]], reference: str) -> dict[str, Difference]:
    """What each other row differs by from the row `reference`, over the same seeds in order; see `paired_each`."""
    return paired_each({name: (row, values[reference]) for name, row in values.items() if name != reference})


def paired_each(pairs: Mapping[Row, tuple[Sequence[float], Sequence[float]]]) -> dict[Row, Difference]:
    """What the values of each row (values, reference) differ by from its own reference; the rows are one family.

    The more rows, the more easily one of them looks different by chance: intervals and verdicts, which agree, are
    Bonferroni's.
    """
    for name, (values, reference) in pairs.items():
        if len(values) != len(reference):
            raise ValueError(
                f"{name!r} has {len(values)} seeds, its reference {len(reference)}; pairs need the same seeds"
            )
    changes = {name: [a - b for a, b in zip(*pair, strict=True)] for name, pair in pairs.items()}
    confidence = 1 - LEVEL / max(1, len(pairs))
    p_values = bonferroni([t_test(change) for change in changes.values()])
    return {
        name: Difference(
            t_interval(change, confidence),
            ratio_interval(change, pairs[name][1], confidence),
            stdev(change) if len(change) > 1 else float("nan"),
            p_value,
        )
        for (name, change), p_value in zip(changes.items(), p_values, strict=True)
    }


def seeds_needed(difference: float, noise: float, num_comparisons: int = 1) -> int | None:
    """The least number of seeds with which a paired t test sees a true `difference` four times in five.

    `noise` is the standard deviation of paired differences; the test is two-sided at 5 % / `num_comparisons`. None
    where no number up to a million does, or the noise is not known.
    """
    if not difference or math.isnan(noise):
        return None
    effect = abs(difference) / noise if noise else float("inf")
    found = bisect_left(range(MOST_SEEDS), POWER, lo=2, key=lambda n: power(effect, n, LEVEL / num_comparisons))
    return found if found < MOST_SEEDS else None


def power(effect: float, num_seeds: int, level: float = LEVEL) -> float:
    """Chance that a two-sided paired t test sees a difference of `effect` standard deviations of the differences.

    P(T^2 > t^2), where T^2 is noncentral F with 1 and n - 1 degrees of freedom and noncentrality `effect`^2 n (scipy's
    noncentral t is NaN for large effects).
    """
    from scipy.special import ncfdtr

    if math.isinf(effect):
        return 1.0
    limit = _t_quantile(1 - level, num_seeds - 1)
    return float(1 - ncfdtr(1, num_seeds - 1, effect**2 * num_seeds, limit**2))


def seen_effect(num_seeds: int, level: float = LEVEL) -> float:
    """The least difference, in standard deviations of the differences, that a paired t test sees four times in five.

    Infinite for a single seed.
    """
    if num_seeds < 2:
        return math.inf
    grid = range(1, 100_000)
    at = bisect_left(grid, POWER, key=lambda hundredths: power(hundredths / 100, num_seeds, level))
    return grid[at] / 100 if at < len(grid) else math.inf


def noise_factors(num_seeds: int) -> tuple[float, float]:
    """95 % bounds of the true noise over the one estimated from so many seeds, by the chi-square distribution."""
    from scipy.special import chdtri

    degrees = num_seeds - 1
    low, high = (math.sqrt(degrees / float(chdtri(degrees, tail))) for tail in (LEVEL / 2, 1 - LEVEL / 2))
    return low, high


def factorial_effects(responses: Mapping[tuple[bool, ...], Sequence[float]], names: Sequence[str]) -> list[Effect]:
    """All main effects and interactions of a full two-level factorial, main effects first.

    `responses` maps each setting of the factors `names` to its values over the same seeds in the same order. A main
    effect is the mean response with the factor on minus that with it off; the interaction of A and B is half of (effect
    of A with B on, minus effect of A with B off), and so on: each is a contrast of -1 and +1 over half the number of
    settings, taken per seed, so that what seeds share cancels.

    Raises ValueError, naming them, where settings lack, or seeds differ in number.

    Source: Box, Hunter and Hunter, "Statistics for Experimenters" (2005), chapter 5.
    """
    settings = list(product((False, True), repeat=len(names)))
    _require_full(responses, settings, names)
    chosen = [which for size in range(1, len(names) + 1) for which in combinations(range(len(names)), size)]
    by_seed = list(zip(*(responses[setting] for setting in settings), strict=True))
    contrasts = [[_contrast(values, settings, which) for values in by_seed] for which in chosen]
    p_values = bonferroni([t_test(contrast) for contrast in contrasts])
    confidence = 1 - LEVEL / len(chosen)
    return [
        Effect(tuple(names[i] for i in which), t_interval(contrast, confidence), p_value)
        for which, contrast, p_value in zip(chosen, contrasts, p_values, strict=True)
    ]


def _contrast(values: Sequence[float], settings: Sequence[tuple[bool, ...]], which: Sequence[int]) -> float:
    signs = (math.prod(1 if setting[i] else -1 for i in which) for setting in settings)
    return math.fsum(sign * value for sign, value in zip(signs, values, strict=True)) / (len(settings) / 2)


def _require_full(
    responses: Mapping[tuple[bool, ...], Sequence[float]], settings: Sequence[tuple[bool, ...]], names: Sequence[str]
) -> None:
    if missing := [setting for setting in settings if setting not in responses]:
        absent = "; ".join(
            ", ".join(f"{name} {'on' if on else 'off'}" for name, on in zip(names, setting, strict=True))
            for setting in missing
        )
        raise ValueError(f"a full factorial of {len(names)} factors has {len(settings)} settings; missing: {absent}")
    counts = {len(responses[setting]) for setting in settings}
    if len(counts) > 1:
        raise ValueError(f"settings have {sorted(counts)} seeds; expected the same seeds in all of them")


def _t_quantile(confidence: float, degrees: int) -> float:
    """Half-width of a central interval of Student's t."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees, (1 + confidence) / 2))
