"""Looking after every seed: which start is best, decided as soon as the seeds tell, without false answers for looking.

Scores are compared by their logarithms, seed by seed. After n seeds the difference of two starts lies, by Student's t,
within an interval at confidence 1 - c w(n), where w(n) = n / N up to a planned number N of seeds and 0.3 (N / n)^2
later. The constant c is such that over ALL looks together, however one stops or goes on, the chance that an interval
misses the truth is a given level: the t statistics of independent Gaussian differences depend on neither mean nor
spread, so c is found once by simulation. Of k starts, two promises are kept at 5 % each:

- changes against the reference, k - 1 two-sided intervals at 5 % / (k - 1) each: all of them hold together;
- comparisons with the best, one-sided at 5 % / (k - 1) each: the best start is never given up.

Source: Jennison and Turnbull, "Group Sequential Methods" (2000), chapter 9 (repeated confidence intervals); Lan and
DeMets, "Discrete sequential boundaries for clinical trials" (1983); Hsu, "Simultaneous confidence intervals for all
distances from the 'best'" (1981).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float, Int

from adaln.statistics import LEVEL, Interval, power

FIRST_LOOK = 3
"""Seeds before the first look, where so many are planned: two tell next to nothing."""
FEWEST = 2
"""Seeds that a race takes at least."""
HORIZON = 4
"""Looks go on until so many times the planned seeds; later seeds narrow nothing any more."""
_PATHS, _CHUNK = 2**18, 2**13


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of some starts after the seeds so far; `low` and `high` bound log(score of row / of column)."""

    names: Sequence[str]
    reference: str
    seeds: int
    """Looked at in all starts that are still in the race."""
    leader: str
    """Of those still in the race, the one with the best mean."""
    left: Mapping[str, tuple[str, int]]
    """Starts that are out of the race: why, and after how many seeds."""
    equals: Sequence[str]
    """Those still in the race that are equal to the leader within the margin."""
    low: Float[np.ndarray, "starts starts"]
    high: Float[np.ndarray, "starts starts"]
    mean: Float[np.ndarray, "starts starts"]
    more_is_better: bool = False
    """Then the bounds and means are of the logarithms' negatives."""

    @property
    def racing(self) -> list[str]:
        """Starts that may still be the best."""
        return [name for name in self.names if name not in self.left]

    @property
    def is_known(self) -> bool:
        """Whether the leader is alone, or all that are beside it are equal to it."""
        return len(self.equals) == len(self.racing) - 1

    def change(self, name: str) -> Interval:
        """Relative change of the score against the reference; the intervals of all starts hold together."""
        at = self.names.index(name), self.names.index(self.reference)
        value, low, high = (float(side[at]) for side in (self.mean, self.low, self.high))
        if self.more_is_better:
            value, low, high = -value, -high, -low
        return Interval(_expm1(value), _expm1(low), _expm1(high))

    def word(self, name: str, margin: float) -> str:
        """What the interval of a start's change says, and no more than it."""
        change = self.change(name)
        if change.high < 0 or change.low > 0:
            return "better" if (change.low > 0) is self.more_is_better else "worse"
        is_equal = -margin <= change.low and change.high <= margin
        return f"equal within {margin:.0%}" if is_equal else "not told apart"


def race(
    scores: Mapping[str, Sequence[float]], reference: str, planned: int, margin: float, more_is_better: bool = False
) -> Standing:
    """Plays the seeds one after the other: after each, starts that are worse than another one leave the race.

    `scores` are positive, less is better (or more), the same seeds in the same order; a start that has left needs no
    more of them, one that is not finite leaves at once. A race stands where a start in it lacks the next seed, where it
    is decided, or where `HORIZON` times the planned seeds are through. It is a function of the scores alone: with more
    seeds it goes on where it stood.

    Raises `ValueError` for fewer seeds than the first look takes, or a score that is not positive.
    """
    names = list(scores)
    least = min([planned, *(len(values) for values in scores.values() if np.isfinite(values).all())])
    if least < first_look(planned):
        raise ValueError(f"{least} seeds; expected at least {first_look(planned)}")
    if any(value <= 0 for values in scores.values() for value in values):
        raise ValueError("a score is not positive; starts are compared by ratios")
    shape = (len(names), len(names))
    low, high, mean = np.full(shape, -np.inf), np.full(shape, np.inf), np.full(shape, np.nan)
    left: dict[str, tuple[str, int]] = {}
    level, to_reference = LEVEL / max(1, len(names) - 1), np.zeros(shape, bool)
    to_reference[names.index(reference)] = to_reference[:, names.index(reference)] = True
    seeds = first_look(planned)
    while True:
        for name in names:
            if name not in left and not np.isfinite(scores[name][:seeds]).all():
                left[name] = ("diverged", seeds)
        racing = np.array([name not in left for name in names])
        if not racing.any():
            raise ValueError("every start diverged; expected a smaller learning rate")
        logs = np.log([scores[name][:seeds] for name in names if name not in left]) * (-1 if more_is_better else 1)
        at = np.ix_(racing, racing)
        two_sided, one_sided = reach(seeds, planned, level), reach(seeds, planned, min(2 * level, LEVEL))
        reaches = np.where(to_reference, two_sided, one_sided)
        low[at], high[at], mean[at] = _narrowed(logs, low[at], high[at], reaches[at])
        worse = racing & (low[:, racing] > 0).any(axis=1)
        left |= {name: ("worse", seeds) for name, is_worse in zip(names, worse, strict=True) if is_worse}
        leader = names[_best(mean, racing & ~worse)]
        equals = _equals(names, left, leader, low, high, margin)
        standing = Standing(names, reference, seeds, leader, left, equals, low, high, mean, more_is_better)
        enough = min(len(scores[name]) for name in standing.racing) > seeds
        if standing.is_known or not enough or seeds >= HORIZON * planned:
            return standing
        seeds += 1


def first_look(planned: int) -> int:
    """Seeds before the first look."""
    return max(FEWEST, min(FIRST_LOOK, planned))


@lru_cache(maxsize=4096)
def reach(seeds: int, planned: int, level: float) -> float:
    """Half-width of the interval at one look, in standard errors: over all looks together at most `level` miss."""
    from scipy.special import stdtrit

    nominal = _constant(planned, level) * float(_weight(np.array([seeds]), planned)[0])
    return float(stdtrit(seeds - 1, 1 - nominal / 2))


def detectable(planned: int, num_starts: int) -> float:
    """The change, in standard deviations of the paired differences, that is seen by the planned end 4 times in 5."""
    nominal = _constant(planned, LEVEL / max(1, num_starts - 1))
    effects = np.geomspace(0.1, 100, 400)
    seen = [power(float(effect), planned, nominal) >= 0.8 for effect in effects]
    return float(effects[int(np.argmax(seen))])


def _constant(planned: int, level: float) -> float:
    """c of the module's head."""
    least = _least_p(planned)
    return float(least[int(level * len(least))])


@lru_cache
def _least_p(planned: int) -> Float[np.ndarray, "paths"]:
    """Of equal starts: the least p / w over all looks, sorted; its quantile at a level is c."""
    from scipy.special import stdtr, stdtrit

    looks, first = np.arange(1, HORIZON * planned + 1), first_look(planned) - 1
    degrees, weight = looks[first:] - 1, _weight(looks[first:], planned)
    worth = stdtrit(degrees, 1 - LEVEL / 2)  # p above 5 % is never the least that matters
    rng, least = np.random.default_rng(0), []
    for _ in range(_PATHS // _CHUNK):
        draws = rng.standard_normal((_CHUNK, len(looks)))
        totals, squares = draws.cumsum(axis=1), np.square(draws).cumsum(axis=1)
        spread = (squares - totals**2 / looks)[:, first:] / degrees
        t = np.abs(totals[:, first:]) / np.sqrt(looks[first:] * spread)
        path, look = np.nonzero(t > worth)
        smallest = np.ones(_CHUNK)
        np.minimum.at(smallest, path, 2 * stdtr(degrees[look], -t[path, look]) / weight[look])
        least.append(smallest)
    return np.sort(np.concatenate(least))


def _weight(seeds: Int[np.ndarray, "looks"], planned: int) -> Float[np.ndarray, "looks"]:
    """How the level is spent over the looks, up to a factor."""
    return np.where(seeds <= planned, seeds / planned, 0.3 * (planned / seeds) ** 2)


def _narrowed(
    logs: Float[np.ndarray, "starts seeds"],
    low: Float[np.ndarray, "starts starts"],
    high: Float[np.ndarray, "starts starts"],
    reach: Float[np.ndarray, "starts starts"],
) -> tuple[Float[np.ndarray, "starts starts"], ...]:
    """Bounds and means of all differences: what earlier looks leave of this look's, all of it where they leave none."""
    count = logs.shape[1]
    means, moments = logs.mean(axis=1), np.atleast_2d(np.cov(logs))
    mean = means[:, None] - means
    variance = np.diag(moments)[:, None] + np.diag(moments) - 2 * moments
    half = reach * np.sqrt(np.maximum(variance, 0) / count)
    lower, upper = np.maximum(low, mean - half), np.minimum(high, mean + half)
    empty = lower > upper
    return np.where(empty, mean - half, lower), np.where(empty, mean + half, upper), mean


def _best(mean: Float[np.ndarray, "starts starts"], racing: Bool[np.ndarray, "starts"]) -> int:
    """The start whose mean is least."""
    first = int(np.argmax(racing))
    return int(np.argmin(np.where(racing, mean[:, first], np.inf)))


def _equals(
    names: Sequence[str],
    left: Mapping[str, tuple[str, int]],
    leader: str,
    low: Float[np.ndarray, "starts starts"],
    high: Float[np.ndarray, "starts starts"],
    margin: float,
) -> list[str]:
    """Starts in the race whose interval against the leader lies within the margin."""
    at, most = names.index(leader), math.log1p(margin)
    return [
        name
        for i, name in enumerate(names)
        if name not in left and i != at and -most < low[i, at] and high[i, at] < most
    ]


def _expm1(value: float) -> float:
    """A relative change out of a difference of logarithms."""
    return math.expm1(value) if value < 700 else math.inf
