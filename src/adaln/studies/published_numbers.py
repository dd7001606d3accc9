"""The paper's own numbers, from one data file: what each row trains, and what the paper scored."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from adaln.studies.study import Setting


@dataclass(frozen=True, slots=True)
class PublishedRow:
    """One row of a table of the paper."""

    setting: Setting
    scores: Mapping[str, float]
    """By `fid`, `sfid`, `is`, `precision`, `recall` (the last two in percent); only what the paper prints."""

    @property
    def fid(self) -> float | None:
        """None where the paper shows it in a figure only."""
        return self.scores.get("fid")


@dataclass(frozen=True, slots=True)
class PublishedTable:
    """A table of the paper, with the protocol behind its numbers."""

    name: str
    what: str
    protocol: str
    rows: tuple[PublishedRow, ...]

    def by_label(self) -> Mapping[str, PublishedRow]:
        """Rows by their labels; of a table of several groups, by group and label."""
        return {f"{row.setting.group}: {row.setting.label}".removeprefix(": "): row for row in self.rows}


@cache
def published_tables() -> Mapping[str, PublishedTable]:
    """All tables of the data file, by name. A row's fields are those of `Setting`, and its scores."""
    content = json.loads(files("adaln.studies").joinpath("published.json").read_text(encoding="utf-8"))
    return {
        name: PublishedTable(
            name,
            table["what"],
            content["protocol"],
            tuple(_row({**table.get("all_rows", {}), **row}) for row in table["rows"]),
        )
        for name, table in content["tables"].items()
    }


def gaussian_scheme(std: float) -> str:
    """All roles from N(0, std^2), by the name under which the paper's tables train the same run."""
    return {0.0: "adaln-zero", 1e-3: "adaln-gaussian"}.get(std, f"adaln-gaussian:{std:g}")


def _row(row: dict[str, object]) -> PublishedRow:
    scores = {name: float(str(row.pop(name))) for name in ("fid", "sfid", "is", "precision", "recall") if name in row}
    return PublishedRow(Setting(**row), scores)  # type: ignore[arg-type]
