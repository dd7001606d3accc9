"""Figures of plain data -> matplotlib's object API. No pyplot, no global state; `pictures` turns these into files."""

from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.patches import Rectangle

from adaln.report.axes import array, dress, joined, say_if_empty, scale_axis
from adaln.report.figures import Figure, Group, Histograms, ImageGrid, Intervals, Lines, Matrix, Series
from adaln.report.palette import BETTER, DASHES, MARKERS, WIDTH, WORSE, Theme
from adaln.report.ridgelines import ridgelines
from adaln.report.tables import Measurement, Number

DENSE = 60
"""From so many values on a curve is drawn solid: its noise would drown the dashes."""
TILE = 64
"""Pixels, at least, that an image is enlarged to."""
Look = dict[str, Any]
"""Keywords of matplotlib."""


def draw(figure: Figure, theme: Theme, titled: bool, width: float = WIDTH) -> Canvas:
    """The figure in `theme`, `width` inches wide where its kind allows; its own title above it where `titled`."""
    canvas = Canvas(facecolor=theme.surface, layout="constrained")
    match figure:
        case Lines(apart=True):
            _small_multiples(canvas, figure, theme, width)
        case Lines():
            _lines(canvas, figure, theme, width)
        case Intervals():
            _intervals(canvas, figure, theme, width)
        case Histograms():
            ridgelines(canvas, figure, theme, width)
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


def _legend(ax: Axes, names: list[str], width: float) -> None:
    """Above the axes: in one row where there is room, else in columns for the longest name; none for one series."""
    if len(names) > 1:
        entries = [0.5 + 0.075 * len(name) for name in names]
        ncols = len(names) if sum(entries) < width - 0.5 else max(1, int(width / max(entries)))
        ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=ncols, frameon=False)


def _lines(canvas: Canvas, data: Lines, theme: Theme, width: float) -> None:
    canvas.set_size_inches(width, 3.6)
    ax = canvas.subplots()
    dress(ax, theme)
    xs = joined([s.x for s in data.series])
    ys = joined([part for s in data.series for part in (s.y, s.low, s.high)])
    scale_axis(ax, "x", data.x, xs, sharing=1 if width >= WIDTH else 2)
    scale_axis(ax, "y", data.y, ys)
    for i, series in enumerate(data.series):
        _curve(ax, series, look(i, theme) | {"linestyle": DASHES[i % len(DASHES)]})
    say_if_empty(ax, ys, theme)
    _legend(ax, [series.name for series in data.series], width)


def _small_multiples(canvas: Canvas, data: Lines, theme: Theme, width: float) -> None:
    """Panels of curves; the common y axis holds all values and the usual ends of their bands."""
    panels: dict[str, list[Series]] = {}
    for series in data.series:
        panels.setdefault(series.panel or series.name, []).append(series)
    columns = max(1, min(len(panels), int(width / 1.6)))
    rows = max(1, -(-len(panels) // columns))
    canvas.set_size_inches(width, 0.4 + 1.8 * rows)
    axes = canvas.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    xs, ys = joined([s.x for s in data.series]), joined([s.y for s in data.series])
    for i, ax in enumerate(axes.flat):
        dress(ax, theme)
        scale_axis(ax, "x", data.x, xs, sharing=columns)
        scale_axis(ax, "y", data.y, ys)
        (ax.set_xlabel(""), ax.set_ylabel(""))
        ax.set_visible(i < max(1, len(panels)))
        ax.tick_params(labelbottom=i + columns >= len(panels), labelsize=8)
    for ax, (title, curves) in zip(axes.flat, panels.items(), strict=False):
        ax.set_title(title, loc="left", color=theme.ink)
        if data.y.scale != "log":
            ax.axhline(0, color=theme.muted, linewidth=0.8, zorder=1.5)
        for i, series in enumerate(curves):
            named = replace(series, name=series.name.removeprefix(title).strip())
            _curve(ax, named, look(i, theme) | {"linestyle": DASHES[i % len(DASHES)]})
        if len(curves) > 1:
            ax.legend(frameon=False, fontsize=8)
    lowest, highest = _frame(data)
    if lowest < highest:
        axes.flat[0].set_ylim(lowest, highest)
    canvas.supxlabel(data.x.text, fontsize=9)
    canvas.supylabel(data.y.text, fontsize=9)
    say_if_empty(axes.flat[0], ys, theme)


def _frame(data: Lines) -> tuple[float, float]:
    """The range of all values and, of the ends of their bands, of all but the widest three in ten."""
    ys, lows, highs = (joined([getattr(s, part) for s in data.series]) for part in ("y", "low", "high"))
    lows, highs = (np.append(ys, ends)[np.isfinite(np.append(ys, ends))] for ends in (lows, highs))
    if not len(lows) or data.y.scale == "log":
        return 0.0, 0.0
    low, high = (min(np.nanmin(ys), np.percentile(lows, 15)), max(np.nanmax(ys), np.percentile(highs, 85)))
    margin = 0.05 * (high - low)
    return float(low - margin), float(high + margin)


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


def _intervals(canvas: Canvas, data: Intervals, theme: Theme, width: float) -> None:
    lines = len(data.categories) * max(1, len(data.groups))
    canvas.set_size_inches(width, 1.2 + 0.2 * lines + 0.12 * len(data.categories))
    ax = canvas.subplots()
    dress(ax, theme)
    triples = [np.array([_triple(v) for v in group.values], np.float64).reshape(-1, 3) for group in data.groups]
    values = np.concatenate([np.empty((0, 3)), *triples]).ravel()
    values = np.append(values, joined([seeds for group in data.groups for seeds in group.seeds]))
    scale_axis(ax, "x", data.value, values, sharing=1 if width >= WIDTH else 2)
    for i, (group, triple) in enumerate(zip(data.groups, triples, strict=True)):
        offset = 0.7 * ((i + 0.5) / len(data.groups) - 0.5)
        if data.bars:
            ax.barh(np.arange(len(triple)) + offset, triple[:, 0], 0.6 / len(data.groups), **_bar(i, theme))
        _interval_rows(ax, group, triple, offset, look(i, theme), _sides(data, triple, theme))
    ax.set_yticks(range(len(data.categories)), data.categories)
    ax.set_ylim(max(1, len(data.categories)) - 0.5, -0.5)
    ax.grid(visible=False, axis="y")
    if data.better or np.nanmin(values, initial=0) < 0 < np.nanmax(values, initial=0):
        ax.axvline(0, color=theme.muted, linewidth=0.8, zorder=1.5)
    say_if_empty(ax, values, theme)
    _legend(ax, [group.name for group in data.groups], width)


def _bar(i: int, theme: Theme) -> Look:
    return {"color": look(i, theme)["color"], "alpha": 0.35}


def _sides(data: Intervals, triple: Float[np.ndarray, "n 3"], theme: Theme) -> list[str] | None:
    """The colour of every interval by the side of 0 that it lies on; None where no side is better."""
    if data.better is None:
        return None
    below, above = (BETTER, WORSE) if data.better == "below" else (WORSE, BETTER)
    return [
        theme.series[below] if high < 0 else theme.series[above] if low > 0 else theme.muted for _, low, high in triple
    ]


def _interval_rows(
    ax: Axes, group: Group, triple: Float[np.ndarray, "n 3"], offset: float, style: Look, colours: list[str] | None
) -> None:
    value, low, high = triple.T
    y = np.arange(len(value)) + offset
    colours = colours or [style["color"]] * len(value)
    for row, seeds in zip(y, group.seeds, strict=False):
        dots = array(seeds)
        ax.plot(
            dots,
            np.full(len(dots), row + 0.17),
            linestyle="none",
            marker="o",
            markersize=2.6,
            alpha=0.55,
            color=colours[round(row - offset)],
        )
    # The interval of a biased estimator may lie beside its value: lines from end to end, not error bars around it.
    ax.hlines(y, low, high, color=colours, linewidth=2)
    ax.scatter(value, y, s=36, label=group.name, c=colours, marker=style["marker"], zorder=3)


def _triple(value: Measurement | Number | None) -> tuple[Number, Number, Number]:
    if isinstance(value, Measurement):
        return value.value, value.low, value.high
    return (np.nan, np.nan, np.nan) if value is None else (value, value, value)


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
