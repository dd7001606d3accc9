"""What a figure plots, as a table."""

from adaln.report.figures import Figure, Histograms, ImageGrid, Intervals, Lines, Matrix, Numbers
from adaln.report.tables import Cell, Column, Table

MOST_ROWS = 300
"""Of a table inside a page; longer ones lie as files beside the picture."""


def plotted(figure: Figure) -> Table | None:
    """The values of a figure; None for images, and for histograms, whose counts nobody reads."""
    match figure:
        case Lines():
            columns = [Column("series"), Column(figure.x.text), Column(figure.y.text), Column("low"), Column("high")]
            rows: list[list[Cell]] = [
                [series.name, x, y, *(ends[i] if ends else None for ends in (series.low, series.high))]
                for series in figure.series
                for i, (x, y) in enumerate(zip(series.x, series.y, strict=True))
            ]
        case Intervals():
            counts = [len(seeds) for group in figure.groups for seeds in group.seeds]
            named = [Column(f"seed {i + 1}") for i in range(max(counts, default=0))]
            columns = [Column(""), Column("group"), Column(figure.value.text), *named]
            rows = [
                [category, group.name, group.values[i], *_padded(group.seeds[i] if group.seeds else (), len(named))]
                for i, category in enumerate(figure.categories)
                for group in figure.groups
            ]
        case Matrix():
            columns = [Column(""), *map(Column, figure.columns)]
            rows = [[name, *values] for name, values in zip(figure.rows, figure.values, strict=True)]
        case Histograms() | ImageGrid():
            return None
    kept = [i for i in range(len(columns)) if i == 0 or any(row[i] is not None for row in rows)]
    return Table(figure.title, [columns[i] for i in kept], [[row[i] for i in kept] for row in rows])


def _padded(values: Numbers, length: int) -> list[Cell]:
    return [*values, *[None] * (length - len(values))]
