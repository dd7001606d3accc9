"""Figures as plain data: everything that is plotted and nothing about how; and pages: headings, prose, commands, facts,
tables and figures, in reading order. `codec.json_text` writes them as JSON.

A value of None or NaN is a gap. Every figure has a caption, which says what is seen, of how many (n) and in what unit.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import UInt8

from adaln.codec import name_kinds
from adaln.report.tables import Column, Marked, Measurement, NotebookDisplay, Number, Table
from adaln.statistics import Interval

Scale = Literal["linear", "log", "symlog", "share"]
"""share: linear from 0 to 1, however near to each other the values are."""
Numbers = Sequence[Number | None]


@dataclass(frozen=True, slots=True)
class Axis:
    """What an axis measures."""

    label: str
    unit: str = ""
    scale: Scale = "linear"
    linear_below: Number | None = None
    """symlog: where the logarithm gives way to a line through 0. None: chosen from the data."""

    @property
    def text(self) -> str:
        return f"{self.label} ({self.unit})" if self.unit else self.label


@dataclass(frozen=True, slots=True)
class Series:
    """One curve, with the band [low, high] around it where both are given."""

    name: str
    x: Numbers
    y: Numbers
    low: Numbers | None = None
    high: Numbers | None = None
    joined: bool = True
    """False: points alone, of values that no order connects."""
    panel: str = ""
    """Of small multiples the panel that it shares with others; "": one of its own."""

    @classmethod
    def of(cls, name: str, x: Numbers, intervals: Sequence[Interval]) -> "Series":
        """Estimates with their intervals as the band."""
        return cls(name, x, [i.value for i in intervals], [i.low for i in intervals], [i.high for i in intervals])

    def __post_init__(self) -> None:
        if (self.low is None) != (self.high is None):
            raise ValueError(
                f"series {self.name!r} has one end of its band; expected both `low` and `high`, or neither"
            )
        for part in ("y", "low", "high"):
            values = getattr(self, part)
            if values is not None and len(values) != len(self.x):
                raise ValueError(
                    f"series {self.name!r}: {len(values)} values of {part}; expected {len(self.x)} as in x"
                )


@dataclass(frozen=True, slots=True)
class Captioned(NotebookDisplay):
    """A figure's title, and its caption, which may not be empty."""

    title: str
    caption: str

    def __post_init__(self) -> None:
        if not self.caption.strip():
            raise ValueError(
                f"figure {self.title!r} has no caption; expected what is seen, of how many (n), in what unit"
            )
        self.check()

    def check(self) -> None:
        """ValueError where the parts of a figure do not fit together."""


@dataclass(frozen=True, slots=True)
class Lines(Captioned):
    """Curves over a common x. Raises ValueError for a value <= 0 on a log axis, which could not be seen."""

    x: Axis
    y: Axis
    series: Sequence[Series]
    apart: bool = False
    """Small multiples: a panel for each curve, or for those of one `panel`, over axes that all share; the widest ends
    of bands are cut off."""

    def check(self) -> None:
        for series in self.series:
            _require_positive(self.x, series.name, series.x)
            _require_positive(self.y, series.name, series.y)


@dataclass(frozen=True, slots=True)
class Group:
    """One value, with or without interval, for every category of an `Intervals` figure."""

    name: str
    values: Sequence[Measurement | Number | None]
    seeds: Sequence[Numbers] = ()
    """For every category what each seed gave, drawn as small dots; or nothing."""


@dataclass(frozen=True, slots=True)
class Intervals(Captioned):
    """Points with intervals, one line per category, groups side by side; `bars` draws them from zero."""

    value: Axis
    categories: Sequence[str]
    groups: Sequence[Group]
    bars: bool = False
    better: Literal["below", "above"] | None = None
    """Of changes: on which side of 0 one is better. An interval that lies on one side has that side's colour."""

    def check(self) -> None:
        for group in self.groups:
            for what, values in (("values", group.values), ("rows of seeds", group.seeds or group.values)):
                if len(values) != len(self.categories):
                    raise ValueError(
                        f"group {group.name!r} has {len(values)} {what}; expected one for each of the "
                        f"{len(self.categories)} categories"
                    )
            values = [v.value if isinstance(v, Measurement) else v for v in group.values]
            _require_positive(self.value, group.name, values)


@dataclass(frozen=True, slots=True)
class Ridge:
    """A histogram: `counts[i]` values between `edges[i]` and `edges[i + 1]`. A bin of no width is drawn as a spike."""

    label: str
    edges: Sequence[Number]
    counts: Sequence[Number]
    note: str = ""
    """Written at the right end of the ridge, e.g. "std 1.0e-03"."""

    def __post_init__(self) -> None:
        if len(self.edges) != len(self.counts) + 1:
            raise ValueError(f"ridge {self.label!r}: {len(self.edges)} edges; expected {len(self.counts) + 1}")
        if not all(a <= b for a, b in zip(self.edges, self.edges[1:], strict=False)) or not _finite(self.edges):
            raise ValueError(
                f"ridge {self.label!r}: edges must be finite and may not fall; got {list(self.edges)[:4]}…"
            )
        if not _finite(self.counts) or min(self.counts, default=0) < 0:
            raise ValueError(f"ridge {self.label!r}: counts must be finite and >= 0; got {min(self.counts)}")


@dataclass(frozen=True, slots=True)
class Panel:
    """The histograms of one quantity over time, first at the top."""

    title: str
    ridges: Sequence[Ridge]


@dataclass(frozen=True, slots=True)
class Histograms(Captioned):
    """Ridgelines: panels with a common value axis. Height is the density of values (per unit of value, on a symlog axis
    too: a bell stays a bell), scaled to each ridge's peak: widths compare across ridges, heights do not.
    A spike, for values that are all alike, is as high as their share."""

    x: Axis
    panels: Sequence[Panel]
    columns: int = 3

    def check(self) -> None:
        if self.columns < 1:
            raise ValueError(f"figure {self.title!r}: {self.columns} columns of panels; expected at least 1")
        if self.x.scale == "log":
            raise ValueError(f"figure {self.title!r}: histograms on a log axis lose values <= 0; expected 'symlog'")


@dataclass(frozen=True, slots=True)
class ImageGrid(Captioned):
    """Images in rows and columns; one channel is grey, three are RGB. Pixels are enlarged, never smoothed."""

    images: UInt8[np.ndarray, "rows columns H W C"]
    row_labels: Sequence[str] = ()
    column_labels: Sequence[str] = ()

    def check(self) -> None:
        rows, columns, _, _, channels = self.images.shape
        if channels not in (1, 3):
            raise ValueError(f"figure {self.title!r}: images of {channels} channels; expected 1 or 3")
        for name, labels, count in (("row", self.row_labels, rows), ("column", self.column_labels, columns)):
            if labels and len(labels) != count:
                raise ValueError(f"figure {self.title!r}: {len(labels)} {name} labels; expected {count} or none")


@dataclass(frozen=True, slots=True)
class Matrix(Captioned):
    """A heat map with a text in every cell. Values of one sign run from faint (least) to strong (greatest);
    of both signs, from faint (zero) to strong, in one hue per sign."""

    rows: Sequence[str]
    columns: Sequence[str]
    values: Sequence[Numbers]
    texts: Sequence[Sequence[str]] | None = None
    """None: the values themselves, by `format`."""
    format: str = ".3g"
    outlined: Sequence[tuple[int, int]] = ()
    """(row, column) of cells that stand out, e.g. because they differ from another scheme."""

    def check(self) -> None:
        for name, grid in (("values", self.values), ("texts", self.texts)):
            if grid is not None and [len(row) for row in grid] != [len(self.columns)] * len(self.rows):
                shape = f"{len(self.rows)} rows of {len(self.columns)}"
                raise ValueError(f"figure {self.title!r}: {name} have {[len(r) for r in grid]} cells; expected {shape}")


Figure = Lines | Intervals | Histograms | ImageGrid | Matrix


def alt_text(figure: Figure) -> str:
    """What the picture shows, for those who cannot see it."""
    kind = {"Lines": "Line chart", "Intervals": "Interval chart", "ImageGrid": "Images", "Matrix": "Heat map"}
    return f"{kind.get(type(figure).__name__, type(figure).__name__)}: {figure.title}. {figure.caption}"


@dataclass(frozen=True, slots=True)
class Command:
    """Lines to be copied into a shell or a program."""

    text: str
    title: str = ""
    """What they are for; or nothing where the paragraph before says it."""


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
    answer: str = ""
    """What it says, in a sentence; the headline of a page of it alone."""
    folded: bool = False
    """Opened by those who want to know how sure the answer is, or how it was made."""


@dataclass(frozen=True, slots=True)
class Page:
    """A report that one reads from top to bottom: the answer first, then what it rests on."""

    title: str
    summary: str | Sequence[str]
    """The answer in a sentence, which is the page's headline, and what else a reader must not miss."""
    sections: Sequence[Section]


_TABLES = (Table, Column, Marked, Measurement)
_FIGURES = (Lines, Axis, Series, Intervals, Group, Histograms, Panel, Ridge, Matrix, ImageGrid)
name_kinds({cls.__name__: cls for cls in (Page, Section, Command, Facts, *_TABLES, *_FIGURES)})


def _finite(values: Sequence[Number]) -> bool:
    return all(math.isfinite(v) for v in values)


def _require_positive(axis: Axis, name: str, values: Numbers) -> None:
    bad = [v for v in values if v is not None and v <= 0]
    if axis.scale == "log" and bad:
        raise ValueError(f"{name!r} has {bad[0]} on the log axis {axis.label!r}; expected > 0, or scale 'symlog'")
