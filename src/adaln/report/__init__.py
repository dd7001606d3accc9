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
from adaln.report.page import Block, Command, Facts, Page, Section
from adaln.report.tables import Cell, Column, Marked, Measurement, Table

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
    "Table",
]
