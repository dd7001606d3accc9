"""Histograms over time as ridgelines, drawn by matplotlib's object API."""

from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure as Canvas

from adaln.report.axes import array, dress, say_if_empty, scale_axis, tick_text, typical_magnitude
from adaln.report.figures import Axis, Histograms, Panel, Ridge
from adaln.report.palette import WIDTH, Theme

RIDGE_HEIGHT = 0.9
"""Of a ridge's peak, in units of the distance between ridges: below 1, so that no ridge hides another."""
BINS_ACROSS = 80


def ridgelines(canvas: Canvas, data: Histograms, theme: Theme, width: float) -> None:
    """Fills `canvas` with the panels of `data`, as many beside each other as its width holds."""
    columns = max(1, min(data.columns, len(data.panels), int(width / 2) if width < WIDTH else data.columns))
    rows = max(1, -(-len(data.panels) // columns))
    most = max((len(panel.ridges) for panel in data.panels), default=1)
    canvas.set_size_inches(max(width, 2.9 * columns), 0.5 + rows * (0.4 + 0.34 * most))
    axes = canvas.subplots(rows, columns, sharex=True, squeeze=False)
    ridges = [ridge for panel in data.panels for ridge in panel.ridges]
    ends = array([end for ridge in ridges for end in occupied(ridge)])
    axis = Axis("", "", data.x.scale, data.x.linear_below or typical_magnitude(ridges))
    for i, ax in enumerate(axes.flat):
        dress(ax, theme)
        scale_axis(ax, "x", axis, ends, sharing=columns)
        ax.set_visible(i < len(data.panels) or i == 0)
        ax.tick_params(axis="x", labelsize=7.5)
        ax.tick_params(labelbottom=i + columns >= len(data.panels))
    _frame(axes.flat[0], ends)
    for i, panel in enumerate(data.panels):
        _panel(axes.flat[i], panel, theme)
        if i % columns and _labels(panel) == _labels(data.panels[i - 1]):
            axes.flat[i].tick_params(labelleft=False)
    linear = f", linear within ±{tick_text(axis.linear_below or 0)}" if axis.scale == "symlog" else ""
    canvas.supxlabel(data.x.text + linear, fontsize=9)
    say_if_empty(axes.flat[0], ends, theme)


def _frame(ax: Axes, ends: Float[np.ndarray, "n"]) -> None:
    """Shows the range that holds values, with a margin that is even on the axis as drawn."""
    if not len(ends):
        return
    transform = ax.xaxis.get_transform()
    low, high = transform.transform(np.array([ends.min(), ends.max()]))
    margin = 0.04 * (high - low) or 0.5 * abs(low) or 1.0
    ax.set_xlim(*transform.inverted().transform(np.array([low - margin, high + margin])))


def _labels(panel: Panel) -> list[str]:
    return [ridge.label for ridge in panel.ridges]


def _panel(ax: Axes, panel: Panel, theme: Theme) -> None:
    ax.set_title(panel.title, loc="left", color=theme.ink)
    note: dict[str, Any] = {"transform": ax.get_yaxis_transform(), "fontsize": 7, "color": theme.muted}
    for floor, ridge in enumerate(reversed(panel.ridges)):
        _ridge(ax, ridge, floor, theme.series[0])
        ax.text(1.01, floor, ridge.note, **note)
    ax.set_yticks(range(len(panel.ridges)), _labels(panel)[::-1])
    ax.set_ylim(-0.1, max(1, len(panel.ridges)))
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)


def _ridge(ax: Axes, ridge: Ridge, floor: int, colour: str) -> None:
    edges, counts = array(ridge.edges), array(ridge.counts)
    total = counts.sum() or 1
    spike = (np.diff(edges) == 0) & (counts > 0)
    ax.vlines(edges[:-1][spike], floor, floor + RIDGE_HEIGHT * counts[spike] / total, color=colour, linewidth=2)
    edges, counts = _visible_bins(ax, edges, counts)
    density = counts / np.diff(edges)
    tops = floor + RIDGE_HEIGHT * density / (density.max(initial=0) or 1)
    first, last = occupied_bins(counts)
    ax.axhline(floor, color=colour, linewidth=0.6)
    look: dict[str, Any] = {"facecolor": to_rgba(colour, 0.3), "edgecolor": colour, "linewidth": 1}
    ax.stairs(tops[first:last], edges[first : last + 1], baseline=floor, fill=True, **look)


def _visible_bins(
    ax: Axes, edges: Float[np.ndarray, "edges"], counts: Float[np.ndarray, "bins"]
) -> tuple[Float[np.ndarray, "fewer_edges"], Float[np.ndarray, "fewer_bins"]]:
    """Joins neighbours that are too narrow to be seen: a density of few counts in tiny bins is noise."""
    wide = np.diff(edges) > 0
    edges, counts = np.append(edges[:1], edges[1:][wide]), counts[wide]
    if not len(counts):
        return edges, counts
    positions = ax.xaxis.get_transform().transform(np.append(edges, ax.get_xlim()))
    cells = np.round(positions[:-2] / (positions[-1] - positions[-2]) * BINS_ACROSS)
    starts = np.flatnonzero(np.append(True, np.diff(cells[:-1]) > 0))
    return edges[np.append(starts, len(counts))], np.add.reduceat(counts, starts)


def occupied_bins(counts: Float[np.ndarray, "bins"]) -> tuple[int, int]:
    """The first bin that holds a value and the one after the last; (0, 0) where none does."""
    held = np.flatnonzero(counts)
    return (int(held[0]), int(held[-1]) + 1) if len(held) else (0, 0)


def occupied(ridge: Ridge) -> list[float]:
    """The ends of the range that holds values; [] where there are none."""
    first, last = occupied_bins(array(ridge.counts))
    return [float(ridge.edges[first]), float(ridge.edges[last])] if last else []
