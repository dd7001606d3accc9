"""A report as a folder: the page to read, its Markdown for a repository, and every table and picture as files."""

import re
from pathlib import Path

from adaln.codec import json_text
from adaln.files import write_atomically
from adaln.report.figures import Figure, Histograms, ImageGrid, Intervals, Lines, Matrix, alt_text
from adaln.report.html import write_page
from adaln.report.page import Block, Command, Facts, Page
from adaln.report.pictures import write_figure
from adaln.report.tables import Table, cell_text
from adaln.report.text import csv_text, escaped, markdown


def write_table(table: Table, stem: Path) -> list[Path]:
    """Writes `stem`.md, .csv and .json; returns their paths."""
    texts = {"md": markdown(table), "csv": csv_text(table), "json": json_text(table) + "\n"}
    return [write_atomically(stem.with_name(f"{stem.name}.{suffix}"), text) for suffix, text in texts.items()]


def write_report(page: Page, folder: Path) -> Path:
    """Writes index.html, index.md and every table and figure, named by their places; returns the path of the page."""
    for i, section in enumerate(page.sections, 1):
        for j, block in enumerate(section.blocks, 1):
            match block:
                case Table():
                    write_table(block, folder / _name(block, i, j))
                case Lines() | Intervals() | Histograms() | ImageGrid() | Matrix():
                    write_figure(block, folder / _name(block, i, j))
    write_atomically(folder / "index.md", page_markdown(page))
    return write_page(page, folder / "index.html")


def page_markdown(page: Page) -> str:
    """The page in GitHub's Markdown; its pictures are the SVG files that `write_report` puts beside it."""
    summary = [page.summary] if isinstance(page.summary, str) else page.summary
    parts = [f"# {escaped(page.title)}", *map(_prose, summary)]
    for i, section in enumerate(page.sections, 1):
        parts.append(f"## {escaped(section.heading)}")
        parts += [_markdown_block(block, i, j) for j, block in enumerate(section.blocks, 1)]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _name(block: Table | Figure, section: int, place: int) -> str:
    slug = "-".join(re.findall(r"[a-z0-9]+", block.title.lower()))[:48].strip("-")
    return f"{section}-{place}-{slug or 'untitled'}"


def _markdown_block(block: Block, section: int, place: int) -> str:
    match block:
        case str():
            return _prose(block)
        case Command():
            return f"```\n{block.text}\n```"
        case Facts():
            lines = [f"- {escaped(k)}: {escaped(cell_text(v))}" for k, v in block.pairs.items()]
            return "\n".join([f"**{escaped(block.title)}**", "", *lines])
        case Table():
            return markdown(block)
        case _:
            return _markdown_figure(block, _name(block, section, place))


def _markdown_figure(figure: Figure, name: str) -> str:
    return f"**{escaped(figure.title)}**\n\n![{escaped(alt_text(figure))}]({name}.svg)\n\n{escaped(figure.caption)}"


def _prose(text: str) -> str:
    """A paragraph: code between its backticks stays as it is, the rest is escaped."""
    parts = re.split(r"(`[^`]+`)", " ".join(text.split()))
    return "".join(part if part.startswith("`") and len(part) > 1 else escaped(part) for part in parts)
