"""Tables of the paper as studies at a laptop's scale: the same rows on digits, the published numbers beside them."""

from functools import partial

from adaln.studies.comparison import compare_schemes
from adaln.studies.plan import Study
from adaln.studies.published import PublishedTable, published_tables
from adaln.studies.quickstart import digits_jobs


def table_study(published: PublishedTable) -> Study:
    """The study that repeats a published table row by row on digits; its first row, or adaLN-Zero, is the reference."""
    schemes = {row.label: row.scheme for row in published.rows}
    reference = "adaln-zero" if "adaln-zero" in schemes else published.rows[0].label
    title = f"{published.what}, on digits"
    reduce = partial(compare_schemes, title, f"adaln study {published.name}", reference=reference, published=published)
    return Study(published.name, title, partial(digits_jobs, schemes), reduce, seeds=3)


PAPER_TABLES = {name: table_study(table) for name, table in published_tables().items()}
