"""The map of a sweep: which way of sampling a checkpoint scores best, and what it scores where it was not chosen."""

from itertools import groupby

from adaln.evaluation.samples import WEIGHTS, sample_grid
from adaln.evaluation.sweep import Sweep, Way
from adaln.metrics import METRICS, Score
from adaln.report import Axis, Block, Cell, Column, Lines, Marked, Matrix, Section, Series, Table
from adaln.views.scores import BRACKETS, protocol, score_cell, score_column, shown_name


def sweep_section(sweep: Sweep) -> Section:
    """The answer, the map, each curve, all scores, and samples of the best way."""
    blocks: list[Block] = [answer(sweep)]
    if len(sweep.ways) > 1:
        blocks += [_map(sweep), *_curves(sweep)]
    blocks += [
        sweep_table(sweep),
        sample_grid(sweep.again.samples, sweep.again.scores.provenance["choices"], "The best way's samples"),
    ]
    return Section(f"Which way of sampling step {sweep.step:,} scores best", blocks)


def answer(sweep: Sweep) -> str:
    """The best way, what it scores on samples that did not choose it, and how many others are as good."""
    name, metric = shown_name(sweep.metric, sweep.again.scores), METRICS[sweep.metric]
    chosen, again = sweep.best.scores[sweep.metric], sweep.again.scores[sweep.metric]
    where = f"{words(sweep.best)}: {name} {_text(again, metric.digits)} on samples of another seed"
    if len(sweep.ways) == 1:
        return f"{where}, {_text(chosen, metric.digits)} on those of the seed asked for."
    near = sum(way is not sweep.best and _overlap(way.scores[sweep.metric], chosen) for way in sweep.ways)
    rivals = f" The intervals of {near} other{'s' * (near > 1)} overlap with its own." if near else ""
    return (
        f"Best of {len(sweep.ways)} by {name} is {where}, the number to quote: the {_text(chosen, metric.digits)} by"
        f" which it was chosen is the best of {len(sweep.ways)} and looks better than it is.{rivals}"
    )


def words(way: Way) -> str:
    """The swept choices of a way."""
    return f"guidance {_guidance(way)}, {_row(way)}"


def _guidance(way: Way) -> str:
    return f"{way.scoring.sample.guidance.scale:g}"


def _row(way: Way) -> str:
    choices = way.scores.provenance["choices"]
    width = f" of width {way.scoring.sample.ema:g}" if way.scoring.sample.ema else ""
    return f"{WEIGHTS[way.scoring.sample.weights]}{width}, {choices['sampler']['steps']} steps"


def _text(score: Score, digits: int) -> str:
    if score.low is None or score.high is None:
        return f"{score.value:.{digits}f}"
    return f"{score.value:.{digits}f} [{score.low:.{digits}f}, {score.high:.{digits}f}]"


def _overlap(score: Score, best: Score) -> bool:
    ends = (score.low, score.high, best.low, best.high)
    return None not in ends and score.low <= best.high and best.low <= score.high  # type: ignore[operator]


def _rows(sweep: Sweep) -> dict[str, list[Way]]:
    """The ways by weights and steps, each over all scales of guidance."""
    return {row: list(ways) for row, ways in groupby(sweep.ways, key=_row)}


def _map(sweep: Sweep) -> Matrix:
    rows, name = _rows(sweep), shown_name(sweep.metric, sweep.again.scores)
    columns = [f"guidance {_guidance(way)}" for way in next(iter(rows.values()))]
    values = [[way.scores[sweep.metric].value for way in ways] for ways in rows.values()]
    best = [(i, ways.index(sweep.best)) for i, ways in enumerate(rows.values()) if sweep.best in ways]
    caption = (
        f"{name} of n = {len(sweep.ways)} ways of sampling step {sweep.step:,}, {METRICS[sweep.metric].better} is"
        f" better; outlined: the best. All draw from the same noise."
    )
    return Matrix(f"{name} over the sweep", caption, list(rows), columns, values, None, ".4g", best)


def _curves(sweep: Sweep) -> list[Lines]:
    rows, name = _rows(sweep), shown_name(sweep.metric, sweep.again.scores)
    if any(len(ways) < 2 for ways in rows.values()):
        return []
    series = []
    for row, ways in rows.items():
        ways = sorted(ways, key=lambda way: way.scoring.sample.guidance.scale)
        scores = [way.scores[sweep.metric] for way in ways]
        banded = all(score.low is not None for score in scores)
        band = ([score.low for score in scores], [score.high for score in scores]) if banded else ()
        x = [way.scoring.sample.guidance.scale for way in ways]
        series.append(Series(row, x, [score.value for score in scores], *band))
    caption = (
        f"n = {len(sweep.ways)} ways; {protocol(sweep.again.scores)} but for what is swept. Bands: 95 % intervals."
    )
    axes = Axis("guidance", "scale; 1 is none"), Axis(name, f"{METRICS[sweep.metric].better} is better")
    return [Lines(f"{name} against guidance", caption, *axes, series)]


def sweep_table(sweep: Sweep) -> Table:
    """A row per way, the best first, with all its scores; above them the best way's on samples of another seed."""
    metric, names = METRICS[sweep.metric], list(sweep.again.scores.scores)
    columns = [Column("way"), Column("seed"), *(score_column(name, sweep.again.scores) for name in names)]
    ways = sorted(sweep.ways, key=lambda way: way.scores[sweep.metric].value, reverse=metric.better == "higher")
    seed = sweep.best.scoring.sample.seed
    rows: list[list[Cell]] = [
        [Marked(f"{words(sweep.best)}: to quote"), seed + 1, *(score_cell(sweep.again.scores[name]) for name in names)]
    ]
    rows += [[words(way), seed, *(score_cell(way.scores[name]) for name in names)] for way in ways]
    notes = [next(iter(sweep.again.scores.scores.values())).label, BRACKETS]
    footnotes = dict.fromkeys(note for way in sweep.ways for note in way.scores.notes)
    return Table(
        f"All ways, {protocol(sweep.again.scores)} but for what is swept", columns, rows, notes, footnotes=[*footnotes]
    )
