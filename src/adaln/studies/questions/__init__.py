"""The questions, one file each: tables and figures of the paper, what its reviewers asked, our own."""

from adaln.registry import Registry
from adaln.studies.questions.catch_up import CATCH_UP
from adaln.studies.questions.distribution_figures import FIGURES
from adaln.studies.questions.equal_std import EQUAL_STD
from adaln.studies.questions.factorial import FACTORIAL
from adaln.studies.questions.fitted import FITTED
from adaln.studies.questions.lr_std import LR_STD
from adaln.studies.questions.other_backbones import OTHER_BACKBONES
from adaln.studies.questions.paper_tables import PAPER_TABLES
from adaln.studies.questions.permuted import PERMUTED
from adaln.studies.questions.score_figures import QUICKSTART, SCORE_FIGURES
from adaln.studies.questions.start_figures import START_FIGURES
from adaln.studies.questions.std_sweep import STD_SWEEP
from adaln.studies.questions.table_1 import TABLE_1
from adaln.studies.questions.width_transfer import WIDTH_TRANSFER
from adaln.studies.study import Study

_OF_PAPER = {TABLE_1.name: TABLE_1, **PAPER_TABLES, **SCORE_FIGURES, **FIGURES, **START_FIGURES}


def _place(name: str) -> tuple[bool, int]:
    """Tables before figures, each by its number."""
    return name.startswith("figure"), int(name.removeprefix("table").removeprefix("figure"))


PAPER = {name: _OF_PAPER[name] for name in sorted(_OF_PAPER, key=_place)}
REVIEWERS = {
    study.name: study
    for study in (EQUAL_STD, FACTORIAL, STD_SWEEP, PERMUTED, WIDTH_TRANSFER, CATCH_UP, LR_STD, OTHER_BACKBONES)
}
STUDIES: Registry[Study] = Registry(
    "study", {QUICKSTART.name: QUICKSTART, **PAPER, **REVIEWERS, FITTED.name: FITTED}, accepts=Study
)
