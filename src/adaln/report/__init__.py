"""Plain data -> what people look at: terminal, Markdown, CSV, JSON, PNG, PDF, SVG, one self-contained HTML page."""

from adaln.report.figures import (
    Axis,
    Figure,
    Group,
    Histograms,
    ImageGrid,
    Intervals,
    Lines,
    Matrix,
    Panel,
    Ridge,
    Series,
)
from adaln.report.html import Shown, fragment, html, write_page, write_report, write_table
from adaln.report.page import Block, Command, Facts, Page, Section
from adaln.report.pictures import picture, write_figure
from adaln.report.tables import Cell, Column, Marked, Measurement, Table
from adaln.report.text import csv_text, markdown, page_markdown, show, terminal

__all__ = [
    "Axis",
    "Block",
    "Cell",
    "Column",
    "Command",
    "Facts",
    "Figure",
    "Group",
    "Histograms",
    "ImageGrid",
    "Intervals",
    "Lines",
    "Marked",
    "Matrix",
    "Measurement",
    "Page",
    "Panel",
    "Ridge",
    "Section",
    "Series",
    "Shown",
    "Table",
    "csv_text",
    "fragment",
    "html",
    "markdown",
    "page_markdown",
    "picture",
    "show",
    "terminal",
    "write_figure",
    "write_page",
    "write_report",
    "write_table",
]
