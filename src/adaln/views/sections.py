"""Sections of a page on disk: what one command found, in a form that a later page takes up again.

RUN/analysis/NAME/   section.json, and beside it every table and figure as files, and a page of its own
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from adaln.files import write_atomically
from adaln.report import (
    Axis,
    Column,
    Command,
    Facts,
    Group,
    Histograms,
    Intervals,
    Lines,
    Marked,
    Matrix,
    Measurement,
    Page,
    Panel,
    Ridge,
    Section,
    Series,
    Table,
    json_text,
    write_report,
)

FILE = "section.json"
_KINDS: Mapping[str, type] = {
    kind.__name__: kind
    for kind in (
        *(Axis, Column, Command, Facts, Group, Histograms, Intervals, Lines, Marked, Matrix),
        *(Measurement, Panel, Ridge, Section, Series, Table),
    )
}
_NOT_FINITE = {"nan", "inf", "-inf"}
_NUMERIC = {"x", "y", "low", "high", "value", "values", "edges", "counts"}


def save_section(section: Section, folder: Path) -> Path:
    """Write the section, its tables and figures as files, and a page of it alone; returns the page's path."""
    write_atomically(folder / FILE, json_text(section) + "\n")
    return write_report(Page(section.heading, [], [section]), folder)


def with_saved(page: Page, folder: Path) -> Page:
    """The page with the sections saved in the folders inside `folder`, by name, before its last section."""
    saved = [read_section(file) for file in sorted(folder.glob(f"*/{FILE}"))]
    return replace(page, sections=[*page.sections[:-1], *saved, *page.sections[-1:]])


def read_section(file: Path) -> Section:
    """The section that `save_section` wrote."""
    try:
        found = from_plain(json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{str(file)!r} is not a section of a report: {error}") from None
    if not isinstance(found, Section):
        raise ValueError(f"{str(file)!r} holds a {type(found).__name__}; expected a section of a report")
    return found


def from_plain(value: Any, numeric: bool = False) -> Any:
    """The inverse of `report.json_text` after `json.loads`, for everything but images; sequences come as tuples.

    >>> from_plain(json.loads(json_text(Marked(Measurement(1, 0.5, float("inf"))))))
    Marked(value=Measurement(value=1, low=0.5, high=inf), mark='best')
    """
    match value:
        case dict() if value.get("kind") in _KINDS:
            fields = {name: from_plain(item, name in _NUMERIC) for name, item in value.items() if name != "kind"}
            return _KINDS[value["kind"]](**fields)
        case dict():
            return {key: from_plain(item) for key, item in value.items()}
        case list():
            return tuple(from_plain(item, numeric) for item in value)
        case str() if numeric and value in _NOT_FINITE:
            return float(value)
    return value
