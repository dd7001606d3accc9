"""Figures of plain data -> matplotlib's object API. No pyplot, no global state; `pictures` turns these into files."""

from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure as Canvas
from matplotlib.patches import Rectangle

from adaln.report.axes import array, dress, joined, say_if_empty, scale_axis, tick_text, typical_magnitude
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
from adaln.report.palette import DASHES, MARKERS, WIDTH, Theme
from adaln.report.tables import Measurement, Number

DENSE = 60
"""From so many values on a curve is drawn solid: its noise would drown the dashes."""
TILE = 64
"""Pixels, at least, that an image is enlarged to."""
RIDGE_HEIGHT = 0.9
"""Of a ridge's peak, in units of the distance between ridges: below 1, so that no ridge hides another."""
BINS_ACROSS = 80
Look = dict[str, Any]
"""Keywords of matplotlib."""


def draw(figure: Figure, theme: Theme, titled: bool) -> Canvas:
    """The figure in `theme`; its own title above it where `titled`."""
    canvas = Canvas(facecolor=theme.surface, layout="constrained")
    match figure:
        case Lines():
            _lines(canvas, figure, theme)
        case Intervals():
            _intervals(canvas, figure, theme)
        case Histograms():
            _histograms(canvas, figure, theme)
        case ImageGrid():
            _images(canvas, figure, theme)
        case Matrix():
            _matrix(canvas, figure, theme)
    if titled:
        canvas.set_figheight(canvas.get_figheight() + 0.3)
        canvas.suptitle(figure.title, x=0.01, ha="left", fontweight="bold", fontsize=11)
    return canvas


def look(i: int, theme: Theme) -> Look:
    """Colour and marker of the i-th series: 24 looks before one returns."""
    return {"color": theme.series[i % len(theme.series)], "marker": MARKERS[i % len(MARKERS)]}


def _legend(ax: Axes, names: list[str]) -> None:
    """Above the axes: in one row where there is room, else in columns for the longest name; none for one series."""
    if len(names) > 1:
        entries = [0.5 + 0.075 * len(name) for name in names]
        ncols = len(names) if sum(entries) < WIDTH - 0.5 else max(1, int(WIDTH / max(entries)))
        ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=ncols, frameon=False)


def _lines(canvas: Canvas, data: Lines, theme: Theme) -> None:
    canvas.set_size_inches(WIDTH, 3.8)
    ax = canvas.subplots()
    dress(ax, theme)
    xs = joined([s.x for s in data.series])
    ys = joined([part for s in data.series for part in (s.y, s.low, s.high)])
    scale_axis(ax, "x", data.x, xs)
    scale_axis(ax, "y", data.y, ys)
    for i, series in enumerate(data.series):
        _curve(ax, series, look(i, theme) | {"linestyle": DASHES[i % len(DASHES)]})
    say_if_empty(ax, ys, theme)
    _legend(ax, [series.name for series in data.series])


def _curve(ax: Axes, series: Series, style: Look) -> None:
    x = array(series.x)
    every = max(1, len(x) // 10) if series.joined else 1
    if not series.joined:
        style = style | {"linestyle": ""}
    elif len(x) >= DENSE:
        style = style | {"linestyle": "-"}
    ax.plot(x, array(series.y), label=series.name, linewidth=1.7, markersize=4.5, markevery=every, **style)
    if series.low is not None and series.high is not None:
        band = {"color": style["color"], "alpha": 0.18, "linewidth": 0}
        ax.fill_between(x, array(series.low), array(series.high), **band)


def _intervals(canvas: Canvas, data: Intervals, theme: Theme) -> None:
    lines = len(data.categories) * max(1, len(data.groups))
    canvas.set_size_inches(WIDTH, 1.2 + 0.2 * lines + 0.12 * len(data.categories))
    ax = canvas.subplots()
    dress(ax, theme)
    triples = [np.array([_triple(v) for v in group.values], np.float64).reshape(-1, 3) for group in data.groups]
    values = np.concatenate([np.empty((0, 3)), *triples]).ravel()
    scale_axis(ax, "x", data.value, values)
    for i, (group, triple) in enumerate(zip(data.groups, triples, strict=True)):
        offset = 0.7 * ((i + 0.5) / len(data.groups) - 0.5)
        _interval_row(ax, group, triple, offset, data.bars, len(data.groups), look(i, theme))
    ax.set_yticks(range(len(data.categories)), data.categories)
    ax.set_ylim(max(1, len(data.categories)) - 0.5, -0.5)
    ax.grid(visible=False, axis="y")
    if np.nanmin(values, initial=0) < 0 < np.nanmax(values, initial=0):
        ax.axvline(0, color=theme.muted, linewidth=0.8, zorder=1.5)
    say_if_empty(ax, values, theme)
    _legend(ax, [group.name for group in data.groups])


def _interval_row(
    ax: Axes, group: Group, triple: Float[np.ndarray, "n 3"], offset: float, bars: bool, num: int, style: Look
) -> None:
    value, low, high = triple.T
    y = np.arange(len(value)) + offset
    if bars:
        ax.barh(y, value, 0.6 / num, color=style["color"], alpha=0.35)
    # The interval of a biased estimator may lie beside its value: lines from end to end, not error bars around it.
    ax.hlines(y, low, high, color=style["color"], linewidth=2)
    ax.plot(value, y, linestyle="none", markersize=6, label=group.name, **style)


def _triple(value: Measurement | Number | None) -> tuple[Number, Number, Number]:
    if isinstance(value, Measurement):
        return value.value, value.low, value.high
    return (np.nan, np.nan, np.nan) if value is None else (value, value, value)


def _histograms(canvas: Canvas, data: Histograms, theme: Theme) -> None:
    """Fills `canvas` with the panels of `data`."""
    columns = min(data.columns, len(data.panels)) or 1
    rows = max(1, -(-len(data.panels) // columns))
    most = max((len(panel.ridges) for panel in data.panels), default=1)
    canvas.set_size_inches(max(WIDTH, 2.9 * columns), 0.5 + rows * (0.4 + 0.34 * most))
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


def _images(canvas: Canvas, data: ImageGrid, theme: Theme) -> None:
    mosaic, pitch = _mosaic(data)
    rows, columns, height, width, _ = data.images.shape
    margin = 0.2 + 0.085 * max(map(len, data.row_labels), default=0)
    tile = min(0.95, (WIDTH - margin) / max(1, columns))
    canvas.set_size_inches(margin + tile * columns, 0.3 + tile * rows * height / max(1, width))
    ax = canvas.subplots()
    ax.set_facecolor("none")
    if mosaic.size:
        ax.imshow(mosaic, interpolation="none")
    ax.xaxis.tick_top()
    ax.set_xticks([(i + 0.5) * pitch[1] for i in range(len(data.column_labels))], data.column_labels)
    ax.set_yticks([(i + 0.5) * pitch[0] for i in range(len(data.row_labels))], data.row_labels)
    ax.tick_params(length=0, labelcolor=theme.ink)
    for spine in ax.spines.values():
        spine.set_visible(False)


def _mosaic(data: ImageGrid) -> tuple[np.ndarray, tuple[int, int]]:
    """All images as one RGBA picture with clear gaps, each pixel repeated; and the distance between tiles."""
    rows, columns, height, width, _ = data.images.shape
    times = max(1, -(-TILE // max(1, height, width)))
    gap = max(2, times * max(height, width) // 16)
    tiles = np.broadcast_to(data.images, (*data.images.shape[:4], 3)).repeat(times, 2).repeat(times, 3)
    mosaic = np.zeros((rows, columns, height * times + gap, width * times + gap, 4), np.uint8)
    mosaic[:, :, : height * times, : width * times, :3] = tiles
    mosaic[:, :, : height * times, : width * times, 3] = 255
    joined = mosaic.swapaxes(1, 2).reshape(rows * mosaic.shape[2], columns * mosaic.shape[3], 4)
    return joined, (mosaic.shape[2], mosaic.shape[3])


def _matrix(canvas: Canvas, data: Matrix, theme: Theme) -> None:
    values = np.array([array(row) for row in data.values]).reshape(len(data.rows), len(data.columns))
    strength = _strength(values)
    canvas.set_size_inches(min(12, max(WIDTH / 2, 1.2 + 0.55 * len(data.columns))), 0.6 + 0.3 * len(data.rows))
    ax = canvas.subplots()
    ax.set_facecolor("none")
    outlined = set(data.outlined)
    for (i, j), value in np.ndenumerate(values):
        colour = theme.series[0 if not value < 0 else 1]
        ax.add_patch(Rectangle((j, i), 1, 1, facecolor=colour, alpha=strength[i, j], linewidth=0))
        text = data.texts[i][j] if data.texts else "–" if np.isnan(value) else format(value, data.format)
        ax.text(j + 0.5, i + 0.5, text, ha="center", va="center", fontsize=8)
        if (i, j) in outlined:
            ax.add_patch(Rectangle((j + 0.06, i + 0.06), 0.88, 0.88, fill=False, edgecolor=theme.ink, linewidth=1.6))
    ax.set_xlim(0, max(1, len(data.columns)))
    ax.set_ylim(max(1, len(data.rows)), 0)
    ax.xaxis.tick_top()
    ax.set_xticks(np.arange(len(data.columns)) + 0.5, data.columns)
    ax.set_yticks(np.arange(len(data.rows)) + 0.5, data.rows)
    ax.tick_params(length=0, labelcolor=theme.ink)
    for spine in ax.spines.values():
        spine.set_color(theme.grid)


def _strength(values: Float[np.ndarray, "rows columns"]) -> Float[np.ndarray, "rows columns"]:
    """Opacity of every cell, at most 0.6 so that its text stays legible on light and on dark."""
    sizes = np.abs(np.where(np.isfinite(values), values, np.nan))
    known = sizes[np.isfinite(sizes)]
    if not len(known):
        return np.zeros_like(values)
    one_sign = not ((values > 0).any() and (values < 0).any())
    least = known.min() if one_sign and known.min() > 0 else 0.0
    share = (sizes - least) / ((known.max() - least) or 1)
    return np.nan_to_num(0.06 + 0.54 * share, nan=0.0)
