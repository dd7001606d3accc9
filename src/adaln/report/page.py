"""A page as plain data: headings, prose, commands, facts, tables and figures, in reading order."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from adaln.codec import name_kinds
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
from adaln.report.tables import Column, Marked, Measurement, NotebookDisplay, Number, Table


@dataclass(frozen=True, slots=True)
class Command:
    """A command line, shown to be copied."""

    text: str


@dataclass(frozen=True, slots=True)
class Facts(NotebookDisplay):
    """Names with values: provenance, settings, costs."""

    title: str
    pairs: Mapping[str, str | Number | None]


Block = str | Command | Facts | Table | Figure
"""What a section holds; a `str` is a paragraph, in which `backticks` mark code."""


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and what stands under it."""

    heading: str
    blocks: Sequence[Block]


@dataclass(frozen=True, slots=True)
class Page:
    """A report that one reads from top to bottom: the answer first, then what it rests on."""

    title: str
    summary: str | Sequence[str]
    """The answer in a sentence or a few paragraphs."""
    sections: Sequence[Section]


_TABLES = (Table, Column, Marked, Measurement)
_FIGURES = (Lines, Axis, Series, Intervals, Group, Histograms, Panel, Ridge, Matrix, ImageGrid)
name_kinds({cls.__name__: cls for cls in (Page, Section, Command, Facts, *_TABLES, *_FIGURES)})
