"""Questions as data: the runs that answer them, and how they are reduced to a table and a page."""

from adaln.registry import Registry
from adaln.studies.engine import reduce_study, run_study
from adaln.studies.paper_tables import PAPER_TABLES
from adaln.studies.plan import Job, Outcome, Result, Study
from adaln.studies.quickstart import QUICKSTART

STUDIES: Registry[Study] = Registry("study", {QUICKSTART.name: QUICKSTART, **PAPER_TABLES})

__all__ = ["STUDIES", "Job", "Outcome", "Result", "Study", "reduce_study", "run_study"]
