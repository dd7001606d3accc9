"""Questions as data: the runs that answer them, and how they are reduced to a table and a page."""

from adaln.registry import Registry
from adaln.studies.engine import reduce_study, run_study
from adaln.studies.figure_studies import FIGURES
from adaln.studies.fitted import FITTED
from adaln.studies.paired_tables import PAIRED_TABLES
from adaln.studies.paper_tables import PAPER_TABLES
from adaln.studies.plan import Changes, Job, Outcome, Plan, Result, Scale, Setting, Study
from adaln.studies.quickstart import QUICKSTART
from adaln.studies.reviewers import REVIEWERS
from adaln.studies.scales import SCALES
from adaln.studies.score_figures import SCORE_FIGURES
from adaln.studies.start_figures import START_FIGURES
from adaln.studies.table_1 import TABLE_1

_PAPER = {TABLE_1.name: TABLE_1, **PAPER_TABLES, **PAIRED_TABLES, **SCORE_FIGURES, **FIGURES, **START_FIGURES}


def _place(name: str) -> tuple[bool, int]:
    """Tables before figures, each by its number."""
    return name.startswith("figure"), int(name.removeprefix("table").removeprefix("figure"))


STUDIES: Registry[Study] = Registry(
    "study",
    {
        QUICKSTART.name: QUICKSTART,
        **{name: _PAPER[name] for name in sorted(_PAPER, key=_place)},
        **REVIEWERS,
        FITTED.name: FITTED,
    },
)

__all__ = [
    "SCALES",
    "STUDIES",
    "Changes",
    "Job",
    "Outcome",
    "Plan",
    "Result",
    "Scale",
    "Setting",
    "Study",
    "reduce_study",
    "run_study",
]
