"""Tables as text: Markdown, CSV; pages as Markdown. JSON is `codec.json_text(table)`."""

import csv
import io
import re

from adaln.report.figures import Block, Command, Facts, Figure, Page, alt_text
from adaln.report.plotted import blocks_of
from adaln.report.tables import (
    Cell,
    Column,
    Mark,
    Measurement,
    Number,
    Table,
    Value,
    cell_text,
    mark_of,
    marked_text,
    pairs,
    unmarked,
)

_MARKDOWN_QUOTES: dict[Mark | None, str] = {"best": "**", "muted": "*"}


def markdown(table: Table) -> str:
    """The table in GitHub's Markdown, its title in bold above it and its notes beneath."""
    rule = ["---:" if align == "right" else ":---" for align in table.aligns()]
    heading = [escaped(c.heading) for c in table.columns]
    rows = [[_markdown_cell(c, k) for c, k in pairs(table, row)] for row in table.rows]
    lines = ["| " + " | ".join(row) + " |" for row in [heading, rule, *rows]]
    notes = [part for note in (*table.notes, *table.footnotes) for part in ("", _prose(note))]
    return "\n".join([f"**{escaped(table.title)}**", "", *lines, *notes]) + "\n"


def csv_text(table: Table) -> str:
    """The bare values at full precision; a column that holds a `Measurement` is followed by its low and high ends."""
    measured = [any(isinstance(v, Measurement) for v in table.column(i)) for i in range(len(table.columns))]
    headings = zip((c.heading for c in table.columns), measured, strict=True)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([part for h, wide in headings for part in ((h, f"{h} low", f"{h} high") if wide else (h,))])
    for row in table.rows:
        cells = zip(map(unmarked, row), measured, strict=True)
        writer.writerow([part for value, wide in cells for part in _csv_cells(value, wide)])
    return out.getvalue()


def page_markdown(page: Page) -> str:
    """The page in GitHub's Markdown; its pictures are the SVG files that `write_report` puts beside it."""
    summary = [page.summary] if isinstance(page.summary, str) else page.summary
    parts = [f"# {escaped(page.title)}", *map(_prose, summary)]
    for i, section in enumerate(page.sections, 1):
        parts.append(f"## {escaped(section.heading)}")
        parts += [_prose(section.answer)] if section.answer else []
        parts += [_markdown_block(block, i, j) for j, block in enumerate(blocks_of(section), 1)]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def file_name(block: Table | Figure, section: int, place: int) -> str:
    """What a block of a page is called in the folder of the page, without a suffix."""
    return f"{section}-{place}-{slug(block.title)}"


def slug(title: str) -> str:
    """A title as part of a file's name."""
    return "-".join(re.findall(r"[a-z0-9]+", title.lower()))[:48].strip("-") or "untitled"


def _csv_cells(value: Value, wide: bool) -> tuple[str | Number | None, ...]:
    if isinstance(value, Measurement):
        return value.value, value.low, value.high
    return (value, None, None) if wide else (value,)


def _markdown_cell(cell: Cell, column: Column) -> str:
    quote = _MARKDOWN_QUOTES.get(mark_of(cell), "")
    return f"{quote}{escaped(marked_text(cell, column))}{quote}"


def escaped(text: str) -> str:
    """Text that Markdown shows as it is: its signs escaped, its line breaks spaces."""
    return re.sub(r"([\\`*_<>|\[\]])", r"\\\1", re.sub(r"\s+", " ", text))


def _markdown_block(block: Block, section: int, place: int) -> str:
    match block:
        case str():
            return _prose(block)
        case Command(text, title):
            return (f"**{escaped(title)}**\n\n" if title else "") + f"```\n{text}\n```"
        case Facts():
            lines = [f"- {escaped(k)}: {escaped(cell_text(v))}" for k, v in block.pairs.items()]
            return "\n".join([f"**{escaped(block.title)}**", "", *lines])
        case Table():
            return markdown(block)
        case _:
            image = f"![{escaped(alt_text(block))}]({file_name(block, section, place)}.svg)"
            return f"**{escaped(block.title)}**\n\n{image}\n\n{_prose(block.caption)}"


def _prose(text: str) -> str:
    """A paragraph: code between its backticks stays as it is, the rest is escaped."""
    parts = re.split(r"(`[^`]+`)", " ".join(text.split()))
    return "".join(part if part.startswith("`") and len(part) > 1 else escaped(part) for part in parts)
