"""What every row of an experiment answered, seed by seed, and how its own question leads a page."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import isfinite
from typing import Any

from adaln.metrics import Scores
from adaln.report import Measurement, Page, Section, Table
from adaln.studies.comparison.schemes import final, group, require_same_seeds
from adaln.studies.comparison.verdicts import verdict_word
from adaln.studies.plan import Outcome, Result
from adaln.studies.scoring.curves import shown_name
from adaln.studies.statistics.intervals import Difference, Interval


@dataclass(frozen=True, slots=True)
class Responses:
    """The last score of every row, over the same seeds in the same order."""

    by_label: Mapping[str, Sequence[Outcome]]
    fid: Mapping[str, Sequence[float]]
    scores: Scores
    """Of one run: what they were measured in."""

    @property
    def score(self) -> str:
        """The score's short name."""
        return shown_name("fid", self.scores)

    @property
    def num_seeds(self) -> int:
        return len(next(iter(self.fid.values())))


def responses(outcomes: Sequence[Outcome]) -> Responses:
    """The answers of scored runs; `ValueError` naming the rows whose seeds are not those of the first."""
    by_label = group(outcomes)
    require_same_seeds(by_label, next(iter(by_label)))
    scores = {label: [final(run.scores()) for run in runs] for label, runs in by_label.items()}
    fid = {label: [one["fid"].value for one in found] for label, found in scores.items()}
    return Responses(by_label, fid, next(iter(scores.values()))[0])


def with_answer(result: Result, answer: Sequence[str], section: Section, data: Mapping[str, Any]) -> Result:
    """A comparison's page that answers the experiment's own question first."""
    verdict = [*answer, *result.data["verdict"]]
    page = replace(result.page, summary=verdict, sections=[section, *result.page.sections])
    return replace(result, data={**result.data, **data, "verdict": verdict}, page=page)


def completed(
    result: Result, table: Table, verdict: Sequence[str], sections: Sequence[Section], data: Mapping[str, Any]
) -> Result:
    """A comparison with another table, and more to say before what it says."""
    first, *rest = result.page.sections
    head = replace(first, blocks=[table, *first.blocks[1:]])
    lines = [*verdict, *result.data["verdict"]]
    page = Page(result.page.title, lines, [head, *sections, *rest])
    return Result({**result.data, **data, "verdict": lines}, page, table)


def measurement(interval: Interval, times: float = 1) -> Measurement:
    """An interval as a table's or figure's value."""
    return Measurement(times * interval.value, times * interval.low, times * interval.high)


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


def gaussian_scheme(std: float) -> str:
    """All roles from N(0, std^2), by the name under which the paper's tables train the same run."""
    return {0.0: "adaln-zero", 1e-3: "adaln-gaussian"}.get(std, f"adaln-gaussian:{std:g}")
