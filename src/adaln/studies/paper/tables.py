"""Tables of the paper whose rows are held against one reference, at any scale, the published numbers beside ours."""

from functools import partial

from adaln.studies.comparison.schemes import compare_schemes
from adaln.studies.plan import Study
from adaln.studies.published import PublishedTable, published_tables

ONE_REFERENCE = ("table2", "table3", "table5", "table6", "table7", "table8", "table9")


def table_study(published: PublishedTable) -> Study:
    """The study that repeats a published table row by row; its first row, or adaLN-Zero, is the reference."""
    settings = tuple(row.setting for row in published.rows)
    labels = [setting.label for setting in settings]
    reference = "adaln-zero" if "adaln-zero" in labels else labels[0]
    reduce = partial(compare_schemes, published.what, reference=reference, published=published)
    return Study(published.name, published.what, settings, reduce)


PAPER_TABLES = {name: table_study(published_tables()[name]) for name in ONE_REFERENCE}
