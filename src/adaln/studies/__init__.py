"""Questions as data: the runs that answer them, and how they are reduced to a table and a page."""

from adaln.studies.registry import STUDIES, FinishedStudy
from adaln.studies.run.run_study import reduce_study, run_study
from adaln.studies.scales import SCALES
from adaln.studies.study import Job, Outcome, Overrides, Plan, Result, Scale, Setting, Study

__all__ = [
    "SCALES",
    "STUDIES",
    "FinishedStudy",
    "Job",
    "Outcome",
    "Overrides",
    "Plan",
    "Result",
    "Scale",
    "Setting",
    "Study",
    "reduce_study",
    "run_study",
]
