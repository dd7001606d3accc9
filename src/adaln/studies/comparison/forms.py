"""An interval or a difference as a table's value, as plain data, as a word."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from math import isfinite
from typing import Any

from adaln.report import Measurement
from adaln.statistics import Difference, Interval
from adaln.studies.comparison.verdicts import verdict_word


def absolute_and_relative(difference: Mapping[str, Any]) -> list[Measurement]:
    """A plain difference's absolute change, and its relative one in percent."""
    absolute, relative = (Interval(**difference[name]) for name in ("absolute", "relative"))
    return [Measurement.of(absolute), Measurement.of(relative, 100)]


def plain(interval: Interval) -> dict[str, float | None]:
    """An interval for machines; an end that is not finite is None."""
    return {name: end if isfinite(end) else None for name, end in asdict(interval).items()}


def plain_difference(change: Difference) -> dict[str, Any]:
    """A paired difference for machines."""
    told = {"p_value": change.p_value, "distinguishable": change.distinguishable}
    return {"absolute": plain(change.absolute), "relative": plain(change.relative), **told}


def word(change: Difference) -> str:
    """Better, worse or not distinguishable, where less is better."""
    return verdict_word(plain_difference(change))


def room(intervals: Iterable[Interval]) -> float:
    """The largest effect, of either sign, that one of the intervals leaves room for."""
    return max(abs(end) for interval in intervals for end in (interval.low, interval.high))
