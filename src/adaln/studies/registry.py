"""What the studies are; `study` takes one of them from its runs to its page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adaln.parallel import find_device
from adaln.report import Shown, Table
from adaln.studies.choices import SCALES, STUDIES, Overrides, check_weights
from adaln.studies.questions.candidates import CANDIDATES_STUDY
from adaln.studies.questions.catch_up import CATCH_UP
from adaln.studies.questions.distribution_figures import FIGURES
from adaln.studies.questions.equal_std import EQUAL_STD
from adaln.studies.questions.factorial import FACTORIAL
from adaln.studies.questions.fitted import FITTED
from adaln.studies.questions.lr_std import LR_STD
from adaln.studies.questions.mechanisms import MECHANISMS, MECHANISMS_AS_LARGE
from adaln.studies.questions.other_backbones import OTHER_BACKBONES
from adaln.studies.questions.paper_tables import PAPER_TABLES
from adaln.studies.questions.permuted import PERMUTED
from adaln.studies.questions.precision import PRECISION
from adaln.studies.questions.racing import finish
from adaln.studies.questions.ratio import RATIO
from adaln.studies.questions.released import RELEASED
from adaln.studies.questions.score_figures import QUICKSTART, SCORE_FIGURES
from adaln.studies.questions.start_figures import START_FIGURES
from adaln.studies.questions.starts import HEAD, OPTIMISER, RELEASED_STARTS, THREE_STARTS
from adaln.studies.questions.std_sweep import STD_SWEEP
from adaln.studies.questions.table_1 import TABLE_1
from adaln.studies.questions.width_transfer import WIDTH_TRANSFER
from adaln.studies.questions.zero_convolutions import write_zero_convolutions
from adaln.studies.run.workers import Launcher, Workers, workers_for
from adaln.studies.study import Plan, Result, Study

_OF_PAPER = {TABLE_1.name: TABLE_1, **PAPER_TABLES, **SCORE_FIGURES, **FIGURES, **START_FIGURES}


def _place(name: str) -> tuple[bool, int]:
    """Tables before figures, each by its number."""
    return name.startswith("figure"), int(name.removeprefix("table").removeprefix("figure"))


PAPER = {name: _OF_PAPER[name] for name in sorted(_OF_PAPER, key=_place)}
REVIEWERS = {
    study.name: study
    for study in (EQUAL_STD, FACTORIAL, STD_SWEEP, PERMUTED, WIDTH_TRANSFER, CATCH_UP, LR_STD, OTHER_BACKBONES)
}
OWN = {
    study.name: study
    for study in (
        RATIO,
        CANDIDATES_STUDY,
        FITTED,
        RELEASED,
        RELEASED_STARTS,
        THREE_STARTS,
        HEAD,
        OPTIMISER,
        PRECISION,
        MECHANISMS,
        MECHANISMS_AS_LARGE,
    )
}
TABLE: Mapping[str, Study] = {QUICKSTART.name: QUICKSTART, **PAPER, **REVIEWERS, **OWN}


@dataclass(frozen=True, slots=True, eq=False)
class FinishedStudy(Shown):
    """A study that is done: printed, or the last line of a notebook's cell, it shows its table and its verdict."""

    folder: Path
    """`index.html` is its page, `result.json` holds all of its numbers."""
    result: Result

    def blocks(self) -> list[str | Table]:
        return [self.result.table, *self.result.verdict]


def planned(name: str | Study, scale: str, seeds: int | None, overrides: Overrides) -> Plan:
    """The runs of a study at a scale; `ValueError` for fewer than two seeds."""
    of, size = STUDIES[name] if isinstance(name, str) else name, SCALES[scale]
    if seeds is not None and seeds < 2:
        raise ValueError(f"seeds is {seeds}; expected at least 2 seeds")
    return Plan(of, size, tuple(range(seeds)) if seeds else of.default_seeds(size), overrides)


def study(
    name: str | Study,
    scale: str = "tiny",
    seeds: int | None = None,
    *,
    weights: Sequence[Path | str] = (),
    root: Path | str = "runs",
    jobs: int | None = None,
    device: str = "auto",
    launcher: Launcher | None = None,
    **overrides: Any,
) -> FinishedStudy:
    """All the runs of a study that are missing, their comparison, and its page; `adaln study list` names the studies.

    `seeds` per row (default: the study's own); `jobs` runs at the same time in processes of their own, each held to its
    cores or its GPU, or wherever a `launcher` takes them. `overrides` are `data`, `reference`, `steps` and
    `num_images`; `weights` are the ControlNets of "figure20", which trains nothing. Finished runs are kept in `root`:
    after a kill the same call goes on. A script calls it under `if __name__ == "__main__":`.

    Raises `ValueError` for an unknown name, for fewer than two seeds, and as `Unfinished`, naming the runs that failed.

    docs/python.md has one that trains; every row has a spread, so one seed is refused before anything is:

    >>> import adaln
    >>> adaln.study("table3", seeds=1)
    Traceback (most recent call last):
    ValueError: seeds is 1; expected at least 2 seeds
    """
    given = tuple(map(str, weights))
    called = name if isinstance(name, str) else name.name
    check_weights(called, given, scale=None if scale == "tiny" else scale, seeds=seeds, **overrides)
    if given:
        return FinishedStudy(*write_zero_convolutions(given, Path(root)))
    plan = planned(name, scale, seeds, Overrides(**overrides))
    if launcher is not None:
        return FinishedStudy(*finish(plan, Path(root), launcher))
    with Workers(workers_for(find_device(device), jobs)) as workers:
        return FinishedStudy(*finish(plan, Path(root), workers))
