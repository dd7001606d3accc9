"""Questions as data: the runs that answer them, and how they are reduced to a table and a page."""

from adaln.registry import Registry
from adaln.studies.own.fitted import FITTED
from adaln.studies.own.quickstart import QUICKSTART
from adaln.studies.paper import PAPER
from adaln.studies.plan import Changes, Job, Outcome, Plan, Result, Scale, Setting, Study
from adaln.studies.reviewers import REVIEWERS
from adaln.studies.running.engine import reduce_study, run_study
from adaln.studies.scales import SCALES

STUDIES: Registry[Study] = Registry("study", {QUICKSTART.name: QUICKSTART, **PAPER, **REVIEWERS, FITTED.name: FITTED})

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
