"""Scales, ticks and the look of axes."""

import math
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, Formatter, LogLocator, MaxNLocator, NullFormatter

from adaln.report.figures import Axis, Numbers, Ridge
from adaln.report.palette import Theme
from adaln.report.tables import Number

MAX_DECADES = 6
"""A symlog axis whose linear part is chosen here shows at most so many decades on each side of it."""
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def array(values: Numbers) -> Float[np.ndarray, "n"]:
    """The values, NaN where there is none."""
    return np.array([np.nan if v is None else v for v in values], dtype=np.float64)


def joined(parts: Iterable[Numbers | None]) -> Float[np.ndarray, "n"]:
    """All values of all parts."""
    return np.concatenate([np.empty(0), *(array(part) for part in parts if part is not None)])


def say_if_empty(ax: Axes, values: Float[np.ndarray, "n"], theme: Theme) -> None:
    """An empty figure says so."""
    if not np.isfinite(values).any():
        ax.text(0.5, 0.5, "no values", transform=ax.transAxes, ha="center", va="center", color=theme.muted)


def dress(ax: Axes, theme: Theme) -> None:
    """Quiet axes: no box, a hairline grid behind the data."""
    ax.set_facecolor("none")
    ax.set_axisbelow(True)
    ax.grid(visible=True, color=theme.grid, linewidth=0.6)
    ax.tick_params(which="both", colors=theme.muted, labelcolor=theme.ink, length=3, width=0.6)
    for side, spine in ax.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(theme.muted)
        spine.set_linewidth(0.6)


def scale_axis(
    ax: Axes, which: Literal["x", "y"], axis: Axis, values: Float[np.ndarray, "n"], sharing: int = 1
) -> None:
    """Gives one axis of `ax`, one of `sharing` side by side, its scale, its label, and ticks that fit its values."""
    values = values[np.isfinite(values)]
    part = ax.xaxis if which == "x" else ax.yaxis
    (ax.set_xlabel if which == "x" else ax.set_ylabel)(axis.text)
    set_scale = ax.set_xscale if which == "x" else ax.set_yscale
    match axis.scale:
        case "linear" | "share":
            if axis.scale == "share":
                (ax.set_xlim if which == "x" else ax.set_ylim)(-0.03, 1.03)
            part.set_major_locator(MaxNLocator(6 if sharing == 1 else 4, steps=[1, 2, 2.5, 5, 10]))
        case "log":
            set_scale("log")
            wide = len(values) > 0 and values.max() >= 500 * values.min()
            part.set_major_locator(LogLocator(subs=(1,) if wide else (1, 2, 5)))
            part.set_minor_formatter(NullFormatter())
        case "symlog":
            linear_below = axis.linear_below or smallest_magnitude(values)
            set_scale("symlog", linthresh=linear_below)
            ticks = symlog_ticks(values, linear_below)
            part.set_minor_locator(FixedLocator(ticks))
            part.set_major_locator(FixedLocator(_thinned(ticks, part.get_transform().transform(ticks), 0.06 * sharing)))
            part.set_minor_formatter(NullFormatter())
    part.set_major_formatter(ShortTicks())


class ShortTicks(Formatter):
    """As few digits as tell the ticks of an axis apart."""

    def __call__(self, value: float, _: int | None = None) -> str:
        return tick_text(value)

    def format_ticks(self, values: Iterable[float]) -> list[str]:
        ticks = list(values)
        texts = [[tick_text(tick, digits) for tick in ticks] for digits in range(4, 12)]
        return next((row for row in texts if len(set(row)) == len(row)), texts[0])


def smallest_magnitude(values: Iterable[Number]) -> float:
    """The smallest |value| that is not 0, but at most `MAX_DECADES` below the largest; 1 where all are 0."""
    magnitudes = [abs(v) for v in values if v != 0 and math.isfinite(v)]
    return max(min(magnitudes), max(magnitudes) / 10**MAX_DECADES) if magnitudes else 1.0


def typical_magnitude(ridges: Sequence[Ridge]) -> float:
    """The median over ridges of their median |value|, to one digit. Inside it a symlog axis is linear: a usual
    ridge keeps its shape, a narrow one is a needle, a wide one shows its tails."""
    medians = [m for m in map(_median_magnitude, ridges) if m > 0]
    return float(f"{np.median(medians):.1g}") if medians else 1.0


def _median_magnitude(ridge: Ridge) -> float:
    counts, edges = array(ridge.counts), array(ridge.edges)
    centres = np.abs(edges[1:] + edges[:-1]) / 2
    order = np.argsort(centres)
    below = counts[order].cumsum()
    return float(centres[order][np.searchsorted(below, below[-1] / 2)]) if counts.any() else 0.0


def symlog_ticks(values: Float[np.ndarray, "n"], linear_below: Number) -> list[float]:
    """0 and the powers of ten on each side that has values; the ends themselves where no power lies between."""
    ticks = {0.0}
    for sign in (-1.0, 1.0):
        end = float((sign * values).max(initial=0))
        if end > 0:
            ticks |= {sign * tick for tick in _powers(float(min(linear_below, end)), end)}
    return sorted(ticks)


def _powers(low: float, high: float) -> list[float]:
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    return [10.0**k for k in range(first, last + 1)] or [high]


def _thinned(ticks: list[float], positions: Float[np.ndarray, "n"], gap: float) -> list[float]:
    """Of sorted ticks 0 and, from the ends inwards, those that keep `gap` (share of the axis) between their labels."""
    gap *= float(positions[-1] - positions[0])
    kept = [(0.0, 0.0)]
    for tick, position in sorted(zip(ticks, positions.tolist(), strict=True), key=lambda pair: -abs(pair[1])):
        if all(abs(position - other) >= gap for _, other in kept):
            kept.append((tick, position))
    return sorted(tick for tick, _ in kept)


def tick_text(value: Number, digits: int = 4) -> str:
    """A number as short as an axis needs it.

    >>> [tick_text(v) for v in (0, 0.25, 1000, 50_000, 1e6, -0.001, 3e-7)]
    ['0', '0.25', '1K', '50K', '1M', '−10⁻³', '3·10⁻⁷']
    """
    if value == 0:
        return "0"
    sign, size = "−" if value < 0 else "", abs(value)
    for limit, letter in ((1e6, "M"), (1e3, "K")):
        if limit <= size < 1000 * limit:
            return f"{sign}{size / limit:.{digits}g}{letter}"
    if 0.01 <= size < 1000:
        return f"{sign}{size:.{digits}g}"
    mantissa, exponent = f"{size:.{digits - 1}e}".split("e")
    power = "10" + str(int(exponent)).translate(_SUPERSCRIPT)
    return f"{sign}{power}" if float(mantissa) == 1 else f"{sign}{float(mantissa):g}·{power}"
