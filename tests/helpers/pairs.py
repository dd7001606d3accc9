"""Fewer cases than a whole product, chosen so that no pair of values is left out."""

from collections.abc import Hashable, Iterable, Sequence
from itertools import combinations

Case = tuple[Hashable, ...]


def cover(cases: Sequence[Case], chosen: Iterable[Case] = ()) -> list[Case]:
    """Some of `cases`, `chosen` first, in which any two values stand together that do so in any case; in their order.

    Greedy: always the first case with the most pairs that are still missing.
    """
    kept = list(chosen)
    missing = {pair for case in cases for pair in _pairs(case)} - {pair for case in kept for pair in _pairs(case)}
    pairs = {case: _pairs(case) for case in cases}
    while missing:
        best = max(cases, key=lambda case: len(missing & pairs[case]))
        missing -= pairs[best]
        kept.append(best)
    return [case for case in cases if case in set(kept)]


def _pairs(case: Case) -> set[tuple[tuple[int, Hashable], ...]]:
    return set(combinations(enumerate(case), 2))
