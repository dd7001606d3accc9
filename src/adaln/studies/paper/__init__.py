"""Tables and figures of the paper, one study each."""

from adaln.studies.paper.distribution_figures import FIGURES
from adaln.studies.paper.paired_tables import PAIRED_TABLES
from adaln.studies.paper.score_figures import SCORE_FIGURES
from adaln.studies.paper.start_figures import START_FIGURES
from adaln.studies.paper.table_1 import TABLE_1
from adaln.studies.paper.tables import PAPER_TABLES

_STUDIES = {TABLE_1.name: TABLE_1, **PAPER_TABLES, **PAIRED_TABLES, **SCORE_FIGURES, **FIGURES, **START_FIGURES}


def _place(name: str) -> tuple[bool, int]:
    """Tables before figures, each by its number."""
    return name.startswith("figure"), int(name.removeprefix("table").removeprefix("figure"))


PAPER = {name: _STUDIES[name] for name in sorted(_STUDIES, key=_place)}
