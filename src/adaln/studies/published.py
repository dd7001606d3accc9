"""The paper's own numbers, from one data file, and what they change against a row of their table."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files


@dataclass(frozen=True, slots=True)
class PublishedRow:
    """One row of a table of the paper."""

    label: str
    scheme: str
    """A scheme of ours, as `adaln.conditioning.scheme` reads it."""
    fid: float | None = None
    """None where the paper shows it in a figure only."""
    inception_score: float | None = None


@dataclass(frozen=True, slots=True)
class PublishedTable:
    """A table of the paper, with the protocol behind its numbers."""

    name: str
    what: str
    protocol: str
    rows: tuple[PublishedRow, ...]

    def by_label(self) -> Mapping[str, PublishedRow]:
        """Rows by their labels."""
        return {row.label: row for row in self.rows}


@cache
def published_tables() -> Mapping[str, PublishedTable]:
    """All tables of the data file, by name."""
    found = json.loads(files("adaln.studies").joinpath("published.json").read_text(encoding="utf-8"))
    return {
        name: PublishedTable(
            name,
            table["what"],
            found["protocol"],
            tuple(PublishedRow(r["label"], r["scheme"], r.get("fid"), r.get("is")) for r in table["rows"]),
        )
        for name, table in found["tables"].items()
    }
