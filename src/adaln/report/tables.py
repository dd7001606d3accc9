"""A table as plain data: what its cells hold, not how they look."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from adaln.codec import LEFT_OUT_AT_DEFAULT
from adaln.statistics import Interval

Align = Literal["left", "right"]
Mark = Literal["best", "differs", "warning", "muted", "better", "worse"]
"""best: stands out; differs: not as in the table's reference; warning: look here; muted: not ours, e.g. published;
better, worse: a verdict, which says the word."""

Number = int | float
MISSING = "–"


@dataclass(frozen=True, slots=True)
class Measurement:
    """A number with its interval [low, high]. The interval of a biased estimator may lie beside the value."""

    value: Number
    low: Number
    high: Number

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError(f"interval [{self.low}, {self.high}] is reversed; expected low <= high")

    @classmethod
    def of(cls, interval: Interval, times: float = 1) -> "Measurement":
        """An estimate over seeds, in another unit by a factor that is positive."""
        return cls(times * interval.value, times * interval.low, times * interval.high)


Value = str | Number | None | Measurement


@dataclass(frozen=True, slots=True)
class Marked:
    """A cell that says more than its value."""

    value: Value
    mark: Mark = "best"


Cell = Value | Marked


@dataclass(frozen=True, slots=True)
class Column:
    """A column's heading and how its cells are written."""

    name: str
    unit: str = ""
    """Unit or direction, shown in brackets: "steps", "lower is better"."""
    format: str = ""
    """Format specification of its numbers, e.g. ".2f"; "" writes whole numbers as they are, others with 4 digits."""
    align: Align | None = None
    """None: right where the column holds a number, else left."""
    spare: int = field(default=0, metadata=LEFT_OUT_AT_DEFAULT)
    """On a terminal too narrow for all columns those with the largest go first; 0: none goes."""

    @property
    def heading(self) -> str:
        return f"{self.name} ({self.unit})" if self.unit else self.name


class NotebookDisplay:
    """What a notebook shows by itself."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        from adaln.report.html import fragment

        return fragment([self])  # type: ignore[list-item]  # tables, figures and facts are blocks


@dataclass(frozen=True, slots=True)
class Table(NotebookDisplay):
    """Rows under named columns. Raises ValueError for a row of another length than `columns`."""

    title: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    notes: Sequence[str] = ()
    """What a reader must know before the numbers: protocol, n, kind of interval."""
    footnotes: Sequence[str] = ()

    def __post_init__(self) -> None:
        for i, row in enumerate(self.rows):
            if len(row) != len(self.columns):
                raise ValueError(f"table {self.title!r}: row {i} has {len(row)} cells; expected {len(self.columns)}")

    def column(self, index: int) -> list[Value]:
        """The values of one column, without marks."""
        return [unmarked(row[index]) for row in self.rows]

    def with_first_in_title(self) -> "Table":
        """Without the first column where it says one and the same in every row, which the title then says."""
        said = {cell_text(value) for value in self.column(0)}
        if len(said) != 1:
            return self
        rows = [row[1:] for row in self.rows]
        return replace(self, title=f"{self.title} of {said.pop()}", columns=self.columns[1:], rows=rows)

    def aligns(self) -> list[Align]:
        """The alignment of every column."""
        numeric = [any(isinstance(v, Number | Measurement) for v in self.column(i)) for i in range(len(self.columns))]
        return [c.align or ("right" if has else "left") for c, has in zip(self.columns, numeric, strict=True)]


def unmarked(cell: Cell) -> Value:
    """The value of a cell."""
    return cell.value if isinstance(cell, Marked) else cell


def mark_of(cell: Cell) -> Mark | None:
    """The mark of a cell."""
    return cell.mark if isinstance(cell, Marked) else None


def cell_text(cell: Cell, spec: str = "") -> str:
    """A cell as people read it: "–" where nothing is known, an interval after its value.

    >>> cell_text(Measurement(17.861, 17.5, 18.2), ".2f"), cell_text(None), cell_text(float("-inf"))
    ('17.86 [17.50, 18.20]', '–', '-∞')
    """
    match unmarked(cell):
        case None:
            return MISSING
        case bool(value):
            return "yes" if value else "no"
        case str(value):
            return value
        case int(value):
            return format(value, spec)
        case float(value):
            return _number(value, spec)
        case Measurement(value, low, high):
            return f"{_number(value, spec)} [{_number(low, spec)}, {_number(high, spec)}]"


def _number(value: Number, spec: str) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    return format(value, spec or ".4g")


SUFFIX: dict[Mark | None, str] = {"differs": " ≠", "warning": " !"}
"""A mark is never told by colour alone: best is bold, muted is italic, these two carry a sign."""


def pairs(table: Table, row: Sequence[Cell]) -> Iterator[tuple[Cell, Column]]:
    """The cells of a row, each with its column."""
    return zip(row, table.columns, strict=True)


def marked_text(cell: Cell, column: Column) -> str:
    """The cell as people read it, with the sign of its mark."""
    return cell_text(cell, column.format) + SUFFIX.get(mark_of(cell), "")
