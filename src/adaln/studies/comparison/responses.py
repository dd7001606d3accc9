"""What every row of an experiment answered, seed by seed, and how its own question leads a page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from adaln.metrics import Scores
from adaln.report import Page, Section, Table
from adaln.studies.comparison.schemes import final, group, require_same_seeds
from adaln.studies.plan import Outcome, Result
from adaln.views.scores import shown_name


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


def gaussian_scheme(std: float) -> str:
    """All roles from N(0, std^2), by the name under which the paper's tables train the same run."""
    return {0.0: "adaln-zero", 1e-3: "adaln-gaussian"}.get(std, f"adaln-gaussian:{std:g}")
