"""Questions as data: the runs that answer them, and how they are reduced to a table and a page."""

from typing import TYPE_CHECKING

from adaln.lazily import lazily

if TYPE_CHECKING:
    from adaln.studies.choices import SCALES as SCALES
    from adaln.studies.choices import STUDIES as STUDIES
    from adaln.studies.choices import Overrides as Overrides
    from adaln.studies.registry import FinishedStudy as FinishedStudy
    from adaln.studies.run.run_study import reduce_study as reduce_study
    from adaln.studies.run.run_study import run_study as run_study
    from adaln.studies.study import Job as Job
    from adaln.studies.study import Outcome as Outcome
    from adaln.studies.study import Plan as Plan
    from adaln.studies.study import Result as Result
    from adaln.studies.study import Scale as Scale
    from adaln.studies.study import Setting as Setting
    from adaln.studies.study import Study as Study

__getattr__, __all__ = lazily(__name__)
