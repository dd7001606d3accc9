"""Schemes held against one reference: our quickstart, and tables of the paper, the published numbers beside ours."""

from functools import partial

from adaln.studies.compare import REFERENCE, compare_schemes
from adaln.studies.published import PublishedTable, published_tables
from adaln.studies.study import Setting, Study

FIVE_SCHEMES = ("adaln", "adaln-step1", "adaln-mix", "adaln-zero", "adaln-gaussian")
ONE_REFERENCE = ("table2", "table3", "table5", "table6", "table7", "table8", "table9")


def table_study(published: PublishedTable) -> Study:
    """The study that repeats a published table row by row; its first row, or adaLN-Zero, is the reference."""
    settings = tuple(row.setting for row in published.rows)
    labels = [setting.label for setting in settings]
    reference = REFERENCE if REFERENCE in labels else labels[0]
    reduce = partial(compare_schemes, published.what, reference=reference, published=published)
    return Study(published.name, published.what, settings, reduce)


QUICKSTART = Study(
    "quickstart",
    "Five conditioning schemes",
    tuple(Setting(name, name) for name in FIVE_SCHEMES),
    partial(compare_schemes, "Five conditioning schemes"),
)
PAPER_TABLES = {name: table_study(published_tables()[name]) for name in ONE_REFERENCE}
