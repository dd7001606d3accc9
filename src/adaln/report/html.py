"""A page as ONE HTML file: no request leaves it, no script is needed to read it, the same bytes for the same data;
or as a folder, with its Markdown for a repository and every table and picture as files."""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from adaln.codec import encode, json_text, short_hash
from adaln.files import write_atomically
from adaln.report.figures import Block, Command, Facts, Figure, Page, Section
from adaln.report.palette import DARK, LIGHT, css_variables
from adaln.report.pictures import inline_svg, write_figure
from adaln.report.tables import Cell, Measurement, Number, Table, cell_text, mark_of, unmarked
from adaln.report.terminal import show
from adaln.report.text import csv_text, file_name, markdown, marked_text, page_markdown, pairs

MAX_DATA_BYTES = 200_000
"""Plotted data beyond this stay out of the page; they are in the JSON beside the picture."""
PRINTED_WIDTH = 160
"""Characters of a line that nothing folds."""
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
"""The browser itself refuses every request of the page."""


def html(page: Page) -> str:
    """The page as self-contained HTML: light or dark as the reader's system is, made for print as well."""
    style = (
        f":root {{ color-scheme: light dark; {css_variables(LIGHT)} }}\n"
        f"@media screen and (prefers-color-scheme: dark) {{ :root {{ {css_variables(DARK)} }} }}\n"
        f"{_resource('page.css')}"
    )
    summary = [page.summary] if isinstance(page.summary, str) else page.summary
    contents = "".join(f'<li><a href="#s{i}">{escape(s.heading)}</a></li>' for i, s in enumerate(page.sections, 1))
    sections = "\n".join(_section(section, i) for i, section in enumerate(page.sections, 1))
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{escape(page.title)}</title>
<style>
{style}</style>
</head>
<body>
<header><h1>{escape(page.title)}</h1><div class="summary">{"".join(map(_paragraph, summary))}</div></header>
<nav aria-label="Contents"><ol>{contents}</ol></nav>
<main>
{sections}
</main>
<script>
{_resource("page.js")}</script>
</body>
</html>
"""


class Shown(ABC):
    """What can be shown as paragraphs and tables: as text where it is printed, as HTML in a notebook."""

    @abstractmethod
    def blocks(self) -> Sequence[str | Table]:
        """What a reader is shown, in order."""

    def __str__(self) -> str:
        from rich.console import Console

        console = Console(highlight=False, soft_wrap=True, width=PRINTED_WIDTH, color_system=None)
        with console.capture() as text:
            show(self.blocks(), console)
        return "\n".join(line.rstrip() for line in text.get().splitlines())

    def _repr_html_(self) -> str:
        return fragment(self.blocks())


def fragment(blocks: Sequence[Block]) -> str:
    """What stands in a section, without a page around it: for a notebook, in the colours of a light page."""
    name = f"b{short_hash({'blocks': encode(blocks, finite=True)})}"  # two figures of a notebook share no ids
    style = f".adaln {{ {css_variables(LIGHT)} background: var(--surface); color: var(--ink); padding: 0.5em; }}"
    body = "\n".join(_block(block, f"{name}-{i}") for i, block in enumerate(blocks, 1))
    return f'<style>{style}</style><div class="adaln">{body}</div>'


def write_page(page: Page, path: Path) -> Path:
    """Writes the page to `path`, all of it or nothing."""
    return write_atomically(path, html(page))


def write_table(table: Table, stem: Path) -> list[Path]:
    """Writes `stem`.md, .csv and .json; returns their paths."""
    texts = {"md": markdown(table), "csv": csv_text(table), "json": json_text(table) + "\n"}
    return [write_atomically(stem.with_name(f"{stem.name}.{suffix}"), text) for suffix, text in texts.items()]


def write_report(page: Page, folder: Path) -> Path:
    """Writes index.html, index.md and every table and figure, named by their places; returns the path of the page."""
    for i, section in enumerate(page.sections, 1):
        for j, block in enumerate(section.blocks, 1):
            if isinstance(block, Table):
                write_table(block, folder / file_name(block, i, j))
            elif isinstance(block, Figure):
                write_figure(block, folder / file_name(block, i, j))
    write_atomically(folder / "index.md", page_markdown(page))
    return write_page(page, folder / "index.html")


def _section(section: Section, number: int) -> str:
    blocks = "\n".join(_block(block, f"s{number}-{i}") for i, block in enumerate(section.blocks, 1))
    return f'<section id="s{number}"><h2>{escape(section.heading)}</h2>\n{blocks}\n</section>'


def _block(block: Block, name: str) -> str:
    match block:
        case str():
            return _paragraph(block)
        case Command():
            return f"<pre><code>{escape(block.text)}</code></pre>"
        case Facts():
            rows = "".join(f"<dt>{escape(k)}</dt><dd>{escape(cell_text(v))}</dd>" for k, v in block.pairs.items())
            return f'<div class="facts"><b>{escape(block.title)}</b><dl>{rows}</dl></div>'
        case Table():
            return _table(block)
        case _:
            return _figure(block, name)


def _paragraph(text: str) -> str:
    with_code = re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))
    return f"<p>{with_code}</p>"


def _figure(figure: Figure, name: str) -> str:
    data = json_text(figure)
    if len(data.encode()) > MAX_DATA_BYTES:
        data = f"{len(data.encode()):,} bytes of JSON, kept out of this page; they lie beside the picture's file."
    return (
        f"<figure><figcaption><b>{escape(figure.title)}</b></figcaption>\n"
        f'<div class="scroll">{inline_svg(figure, name)}</div>\n'
        f"<p>{escape(figure.caption)}</p>"
        f"<details><summary>Data</summary><pre>{escape(data)}</pre></details></figure>"
    )


def _table(table: Table) -> str:
    """The table in a box that scrolls sideways where the screen is narrow."""
    columns = zip(table.columns, table.aligns(), strict=True)
    head = "".join(f'<th scope="col" class="{align}">{escape(c.name)}{_unit(c.unit)}</th>' for c, align in columns)
    body = "\n".join(f"<tr>{''.join(_cells(table, row))}</tr>" for row in table.rows)
    notes = "".join(f"<p>{escape(note)}</p>" for note in (*table.notes, *table.footnotes))
    return (
        f'<figure><figcaption><b>{escape(table.title)}</b></figcaption>\n<div class="scroll" tabindex="0"><table>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>{notes}</figure>"
    )


def _cells(table: Table, row: Sequence[Cell]) -> Iterator[str]:
    for align, (cell, column) in zip(table.aligns(), pairs(table, row), strict=True):
        yield f'<td class="{align} {mark_of(cell) or ""}"{_sort_key(cell)}>{escape(marked_text(cell, column))}</td>'


def _unit(unit: str) -> str:
    return f' <span class="unit">({escape(unit)})</span>' if unit else ""


def _sort_key(cell: Cell) -> str:
    value = unmarked(cell)
    number = value.value if isinstance(value, Measurement) else value
    if not isinstance(number, Number):
        return ""
    return f' data-number="{str(number).replace("inf", "Infinity")}"'


def _resource(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")
