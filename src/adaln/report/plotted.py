"""What a figure plots, as a table."""

from dataclasses import replace

from adaln.report.figures import Block, Figure, Histograms, ImageGrid, Intervals, Lines, Matrix, Numbers, Section
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


def blocks_of(section: Section) -> list[Block]:
    """What a section shows: a curve of a single point, or of one for each series at the same x, is a table."""
    return [_without_curve(block) if isinstance(block, Lines) else block for block in section.blocks]


def _without_curve(figure: Lines) -> Lines | Table:
    seen = [[x for x, y in zip(of.x, of.y, strict=True) if y is not None] for of in figure.series]
    is_curve = len({x for each in seen for x in each}) != 1 or max(map(len, seen)) > 1
    table = None if is_curve else plotted(figure)
    return replace(table, notes=[figure.caption]) if table else figure


def _padded(values: Numbers, length: int) -> list[Cell]:
    return [*values, *[None] * (length - len(values))]
