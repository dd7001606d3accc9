"""Sections of a page on disk: what one command found, in a form that a later page takes up again.

RUN/analysis/NAME/   section.json, and beside it every table and figure as files, and a page of its own
"""

import json
from dataclasses import replace
from pathlib import Path

from adaln.codec import decode, json_text
from adaln.files import reading, write_atomically
from adaln.report import Page, Section, write_report

FILE = "section.json"


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
    with reading(file, "a section of a report"):
        return decode(Section, json.loads(file.read_text(encoding="utf-8")))
