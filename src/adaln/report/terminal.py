"""Tables and paragraphs on a terminal: words and numbers stay whole at every width, and what is left out is said."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING

from adaln.folding import folded
from adaln.report.tables import Cell, Column, Mark, Measurement, Number, Table, mark_of, marked_text, pairs, unmarked

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType

_STYLES: dict[Mark | None, str] = {
    "best": "bold",
    "differs": "cyan",
    "warning": "yellow",
    "muted": "dim italic",
    "better": "green",
    "worse": "red",
}
BETWEEN = 3
"""Columns of the terminal from one column of a table to the next."""
MOST_LINES = 6
"""Of a row whose words are folded; what would take more becomes a block of lines."""


class TerminalTable:
    """The table for `rich.console.Console().print`. Text is shown as it is: no markup is read from it.

    Columns stand beside each other where they fit, their words folded where need be, spare ones left out where that
    helps; else each row is a block of lines.
    """

    def __init__(self, table: Table) -> None:
        self.table = table

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> "Iterator[RenderableType]":
        from rich.text import Text

        width = options.max_width
        table = without_spare(self.table, width)
        widths = column_widths(table, width)
        yield Text(folded(table.title, width), "bold")
        if widths is None:
            yield from _blocks(table, width)
        else:
            yield _grid(table, widths)
        for note in (*table.notes, *table.footnotes):
            yield Text(folded(note, width), "dim")


def show(blocks: Sequence[str | Table], console: "Console", width: int | None = None) -> None:
    """Print paragraphs and tables for people, paragraphs folded between words where a width is given.

    One that holds a command stays a line, to be copied.
    """
    for block in blocks:
        if isinstance(block, Table):
            console.print(TerminalTable(block))
        else:
            console.print(block if width is None or "adaln " in block else folded(block, width), markup=False)


def without_spare(table: Table, width: int) -> Table:
    """As many columns as fit, of the spare ones; all of them where the others do not fit either."""
    for limit in sorted({column.spare for column in table.columns if column.spare}, reverse=True):
        if column_widths(table, width) is not None:
            break
        kept = [i for i, column in enumerate(table.columns) if column.spare < limit]
        left_out = ", ".join(column.name for column in table.columns if column.spare >= limit)
        columns, rows = [table.columns[i] for i in kept], [[row[i] for i in kept] for row in table.rows]
        narrow = replace(
            table, columns=columns, rows=rows, footnotes=(*table.footnotes, f"Too narrow for: {left_out}.")
        )
        if column_widths(narrow, width) is not None:
            return narrow
    return table


def column_widths(table: Table, width: int) -> list[int] | None:
    """What each column takes, side by side in so many columns of a terminal; None where they do not fit."""
    columns = [[c.heading, *texts] for c, texts in zip(table.columns, _texts(table), strict=True)]
    wished = [max(_length(line) for text in texts for line in text.split("\n")) for texts in columns]
    least = [
        max(max(map(_length, column.heading.split()), default=0), *(_least(cell, column) for cell in cells), 1)
        for column, cells in zip(table.columns, _cells(table), strict=True)
    ]
    least[0] = wished[0]  # names stay whole
    room = width + 1 - BETWEEN * len(wished)
    if sum(wished) <= room:
        return wished
    if sum(least) > room:
        return None
    extra, lacking = room - sum(least), sum(wished) - sum(least)
    widths = [low + extra * (high - low) // lacking for low, high in zip(least, wished, strict=True)]
    lines = (folded(text, across).count("\n") for texts, across in zip(columns, widths, strict=True) for text in texts)
    return widths if max(lines) < MOST_LINES else None


def _texts(table: Table) -> list[list[str]]:
    return [
        [marked_text(cell, column) for cell in cells]
        for column, cells in zip(table.columns, _cells(table), strict=True)
    ]


def _cells(table: Table) -> list[list[Cell]]:
    return [[row[i] for row in table.rows] for i in range(len(table.columns))]


def _least(cell: Cell, column: Column) -> int:
    """What a cell takes at least: its longest word, or all of a number with its interval, sign or unit."""
    text = marked_text(cell, column)
    return max(map(_length, [text] if _is_whole(cell, column) else text.split()), default=0)


def _is_whole(cell: Cell, column: Column) -> bool:
    """Whether no line may end in it."""
    return column.align == "right" or isinstance(unmarked(cell), Number | Measurement)


def _length(text: str) -> int:
    from rich.cells import cell_len

    return cell_len(text)


def _grid(table: Table, widths: Sequence[int]) -> "RenderableType":
    from rich import box
    from rich.table import Table as Grid
    from rich.text import Text

    grid = Grid(box=box.SIMPLE_HEAD, pad_edge=False)
    for column, align, width in zip(table.columns, table.aligns(), widths, strict=True):
        grid.add_column(Text(column.heading), justify=align, overflow="fold", width=width)
    for row in table.rows:
        grid.add_row(*(Text(marked_text(c, k), _STYLES.get(mark_of(c), "")) for c, k in pairs(table, row)))
    return grid


def _blocks(table: Table, width: int) -> "Iterator[RenderableType]":
    """A row's first cell, then the further ones of which something is known, those with a mark each on a line."""
    from rich.text import Text

    for row in table.rows:
        first, *rest = pairs(table, row)
        yield Text("\n" + folded(marked_text(*first), width), "bold")
        known = [(mark_of(cell), _labelled(cell, column)) for cell, column in rest if unmarked(cell) is not None]
        for mark, members in groupby(known, key=lambda pair: pair[0]):
            texts = [text for _, text in members]
            for paragraph in ["; ".join(texts)] if mark is None else texts:
                yield Text(folded(paragraph, width, "  ", "    ").replace(_HARD, " "), _STYLES.get(mark, ""))
    yield Text("")


def _labelled(cell: Cell, column: Column) -> str:
    text = marked_text(cell, column)
    return f"{column.heading}: {text.replace(' ', _HARD) if _is_whole(cell, column) else text}"


_HARD = "\x00"
"""A space at which no line ends."""
