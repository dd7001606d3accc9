"""A page as ONE HTML file: no request leaves it, no script is needed to read it, the same bytes for the same data;
or as a folder, with its Markdown for a repository and every table and picture as files."""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from html import escape
from itertools import groupby
from pathlib import Path
from urllib.parse import quote

from adaln.codec import encode, json_text, short_hash
from adaln.files import write_atomically
from adaln.progress import progress
from adaln.report.figures import Block, Command, Facts, Figure, ImageGrid, Matrix, Page, Section
from adaln.report.palette import DARK, LIGHT, NARROW, css_variables
from adaln.report.pictures import inline_svg, write_figure
from adaln.report.plotted import MOST_ROWS, blocks_of, plotted
from adaln.report.tables import Cell, Measurement, Number, Table, cell_text, mark_of, marked_text, pairs, unmarked
from adaln.report.terminal import show
from adaln.report.text import csv_text, file_name, markdown, page_markdown, slug

PRINTED_WIDTH = 160
"""Characters of a line that nothing folds."""
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
"""The browser itself refuses every request of the page."""


def page_html(page: Page) -> str:
    """The page as self-contained HTML: light or dark as the reader's system is, made for print as well."""
    style = (
        f":root {{ color-scheme: light dark; {css_variables(LIGHT)} }}\n"
        f"@media screen and (prefers-color-scheme: dark) {{ :root {{ {css_variables(DARK)} }} }}\n"
        f"{_resource('page.css')}"
    )
    summary = [page.summary] if isinstance(page.summary, str) else page.summary
    headline, *further = summary or [page.title]
    kicker = f'<p class="kicker">{escape(page.title)}</p>' if summary else ""
    sections = "\n".join(_section(section, i, page.title) for i, section in enumerate(page.sections, 1))
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
<header>{kicker}<h1>{_inline(headline)}</h1>{"".join(map(_paragraph, further))}</header>
{_contents(page.sections)}<main>
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
    colours = f"{css_variables(LIGHT)} background: var(--surface); color: var(--ink); padding: 0.5em;"
    style = f".adaln {{ {colours} }} .adaln .narrow {{ display: none; }}"
    body = "\n".join(_block(block, f"{name}-{i}") for i, block in enumerate(blocks, 1))
    return f'<style>{style}</style><div class="adaln">{body}</div>'


def write_page(page: Page, path: Path) -> Path:
    """Writes the page to `path`, all of it or nothing."""
    return write_atomically(path, page_html(page))


def write_table(table: Table, stem: Path) -> list[Path]:
    """Writes `stem`.md, .csv and .json; returns their paths."""
    texts = {"md": markdown(table), "csv": csv_text(table), "json": json_text(table) + "\n"}
    return [write_atomically(stem.with_name(f"{stem.name}.{suffix}"), text) for suffix, text in texts.items()]


def write_report(page: Page, folder: Path) -> Path:
    """Writes index.html, index.md and every table and figure, named by their places; returns the path of the page."""
    places = [(i, j, block) for i, s in enumerate(page.sections, 1) for j, block in enumerate(blocks_of(s), 1)]
    shown = [(block, folder / file_name(block, i, j)) for i, j, block in places if isinstance(block, Table | Figure)]
    for done, (block, stem) in enumerate(shown, 1):
        if isinstance(block, Table):
            write_table(block, stem)
        else:
            write_figure(block, stem)
        progress(f"draw {folder}", done, len(shown), "tables and figures")
    write_atomically(folder / "index.md", page_markdown(page))
    return write_page(page, folder / "index.html")


def _contents(sections: Sequence[Section]) -> str:
    """Links to the sections, where there is more than one."""
    items = "".join(f'<li><a href="#s{i}">{escape(s.heading)}</a></li>' for i, s in enumerate(sections, 1))
    return f'<nav aria-label="Contents"><ol>{items}</ol></nav>\n' if len(sections) > 1 else ""


def _section(section: Section, number: int, title: str) -> str:
    """Figures and tables that follow each other stand side by side where the screen is wide."""
    heading, parts = f"<h2>{escape(section.heading)}</h2>", []
    named = enumerate(blocks_of(section), 1)
    for is_wide, run in groupby(named, lambda item: bool(getattr(item[1], "title", ""))):
        blocks = "\n".join(_block(block, f"s{number}-{i}") for i, block in run)
        parts.append(f'<div class="flow">\n{blocks}\n</div>' if is_wide else blocks)
    body = "\n".join([*([_paragraph(section.answer)] if section.answer else []), *parts])
    if section.folded:
        return f'<section id="s{number}"><details><summary>{heading}</summary>\n{body}\n</details></section>'
    shown = heading if section.heading != title and not _repeats(section) else ""
    return f'<section id="s{number}">{shown}\n{body}\n</section>'


def _repeats(section: Section) -> bool:
    """Whether what the section begins with has its heading for a title."""
    return bool(section.blocks) and getattr(section.blocks[0], "title", None) == section.heading


def _block(block: Block, name: str) -> str:
    match block:
        case str():
            return _paragraph(block)
        case Command(text, title):
            lines = f"<pre><code>{escape(text)}</code></pre>"
            return f"<figure><figcaption><b>{escape(title)}</b></figcaption>{lines}</figure>" if title else lines
        case Facts():
            rows = "".join(f"<dt>{escape(k)}</dt><dd>{escape(cell_text(v))}</dd>" for k, v in block.pairs.items())
            return f'<div class="facts"><b>{escape(block.title)}</b><dl>{rows}</dl></div>'
        case Table():
            return _table(block)
        case _:
            return _figure(block, name)


def _paragraph(text: str) -> str:
    return f"<p>{_inline(text)}</p>"


def _inline(text: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))


def _figure(figure: Figure, name: str) -> str:
    """The picture, beside it one for narrow screens, and what it plots."""
    if isinstance(figure, ImageGrid | Matrix):
        drawn = f'<div class="scroll" tabindex="0">{inline_svg(figure, name)}</div>'
    else:
        drawn = (
            f'<div class="wide">{inline_svg(figure, name)}</div>'
            f'<div class="narrow">{inline_svg(figure, f"{name}-narrow", NARROW)}</div>'
        )
    return (
        f"<figure><figcaption><b>{escape(figure.title)}</b></figcaption>\n{drawn}\n"
        f"{_paragraph(figure.caption)}{_data(figure, name)}</figure>"
    )


def _data(figure: Figure, name: str) -> str:
    """The values of a figure as a table to be opened, and as CSV; of what has no table the file where they lie."""
    table = plotted(figure)
    if table is None:
        is_on_page = re.fullmatch(r"s(\d+-\d+)", name)
        file = f"{is_on_page[1]}-{slug(figure.title)}.json" if is_on_page else ""
        where = f"All values lie in <code>{file}</code>, beside the pictures that <code>adaln report</code> writes."
        return f"<details><summary>Data</summary><p>{where}</p></details>" if file else ""
    if not table.rows:
        return ""
    href = f"data:text/csv;charset=utf-8,{quote(csv_text(table))}"
    link = f'<a download="{slug(figure.title)}.csv" href="{href}">CSV</a>'
    rows = _rows(table) if len(table.rows) <= MOST_ROWS else ""
    return f"<details><summary>Data</summary><p>{link}</p>{rows}</details>"


def _table(table: Table) -> str:
    """The table in a box that scrolls sideways where the screen is narrow."""
    notes = "".join(_paragraph(note) for note in (*table.notes, *table.footnotes))
    return f"<figure><figcaption><b>{escape(table.title)}</b></figcaption>\n{_rows(table)}{notes}</figure>"


def _rows(table: Table) -> str:
    columns = zip(table.columns, table.aligns(), strict=True)
    head = "".join(f'<th scope="col" class="{align}">{escape(c.name)}{_unit(c.unit)}</th>' for c, align in columns)
    body = "\n".join(f"<tr>{''.join(_cells(table, row))}</tr>" for row in table.rows)
    return (
        '<div class="scroll" tabindex="0"><table>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>"
    )


def _cells(table: Table, row: Sequence[Cell]) -> Iterator[str]:
    for align, (cell, column) in zip(table.aligns(), pairs(table, row), strict=True):
        text = f"<span>{escape(marked_text(cell, column))}</span>"
        yield f'<td class="{align} {mark_of(cell) or ""}"{_sort_key(cell)}>{text}</td>'


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
