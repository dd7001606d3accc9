"""The tables of a comparison, from its plain rows."""

from collections.abc import Mapping, Sequence
from typing import Any

from adaln.metrics import METRICS, Scores
from adaln.report import Cell, Column, Marked, Measurement, Table
from adaln.statistics import noise_factors
from adaln.studies.comparison.forms import absolute_and_relative
from adaln.studies.comparison.verdicts import count_text, verdict_word
from adaln.studies.published import PublishedTable
from adaln.studies.time_to_quality import Course, Range, middle
from adaln.views.scores import shown_name


def result_table(title: str, rows: Sequence[dict[str, Any]], reference: str, scores: Scores) -> Table:
    """The table that a reader came for; `scores` says in which features."""
    score = shown_name("fid", scores)
    columns = [
        Column("scheme"),
        Column(score, "lower is better", ".1f"),
        Column("change", score, "+.1f"),
        Column("relative", "%", "+.1f"),
        Column("verdict"),
    ]
    best = min(row["fid"]["mean"] for row in rows)
    notes = [
        f"{score}: in {scores['fid'].label}.",
        f"Mean over {rows[0]['fid']['seeds']} seeds, 95 % t intervals in brackets. Changes are against {reference},"
        f" paired over the same seeds; their intervals hold for all {len(rows) - 1} comparisons together (Bonferroni;"
        " relative ones are Fieller's). Verdicts: paired t tests at 5 % for all together (Holm).",
    ]
    return Table(title, columns, [_cells(row, best) for row in rows], notes)


def _cells(row: dict[str, Any], best: float) -> list[Cell]:
    fid, change = _over_seeds(row["fid"]), row["difference"]
    compared: list[Cell] = [None] * 3
    if change:
        compared = [*absolute_and_relative(change), verdict_word(change)]
    marked = Marked(fid) if row["fid"]["mean"] == best else fid
    return [row["scheme"], marked, *compared]


def seeds_table(rows: Sequence[dict[str, Any]]) -> Table:
    """How sure a verdict is, and how many seeds it would take at the noise found here."""
    columns = [
        Column("scheme"),
        Column("p", "Holm", ".2g"),
        Column("noise", "std of the paired difference", ".2f"),
        Column("seeds to see 2 %", align="right"),
        Column("seeds to see the change found", align="right"),
    ]
    found = [(row["scheme"], row["difference"]) for row in rows if row["difference"]]
    cells: list[list[Cell]] = [
        [name, d["p_value"], d["noise"], count_text(d["seeds_for_2_percent"]), count_text(d["seeds_for_this"])]
        for name, d in found
    ]
    seeds = rows[0]["fid"]["seeds"]
    notes = [
        "p: paired t test, adjusted for all comparisons together; at most 0.05 is a verdict. Seeds: with so many a test"
        f" at 5 % / {max(1, len(found))} sees such a true change four times in five."
    ]
    if seeds > 1:
        low, high = noise_factors(seeds)
        notes.append(
            f"A noise estimated from {seeds} seeds is rough: the true one is {low:.2f} to {high:.1f} times it (95 %),"
            " and seeds go with its square."
        )
    return Table("Noise and seeds needed", columns, cells, notes)


def published_table(
    rows: Sequence[dict[str, Any]], reference: str, published: PublishedTable, scores: Scores, data: str
) -> Table:
    """Our change beside the paper's, absolute and relative, row by row."""
    theirs = published.by_label()
    base = theirs[reference].fid
    columns = [
        Column("scheme"),
        Column("ours", shown_name("fid", scores), ".1f"),
        Column("change", format="+.1f"),
        Column("change", "%", "+.1f"),
        Column("published", "FID", ".2f"),
        Column("change", format="+.2f"),
        Column("change", "%", "+.1f"),
        Column("published", "IS", ".2f"),
    ]
    cells: list[list[Cell]] = []
    for row in rows:
        change, paper = row["difference"], theirs[row["scheme"]]
        moved = None if paper.fid is None or base is None or row["scheme"] == reference else paper.fid - base
        ours = [change["absolute"]["value"], 100 * change["relative"]["value"]] if change else [None, None]
        paper_cells = [paper.fid, moved, None if moved is None or base is None else 100 * moved / base]
        quoted = [Marked(value, "muted") for value in (*paper_cells, paper.inception_score)]
        cells.append([row["scheme"], row["fid"]["mean"], *ours, *quoted])
    notes = [
        f"Published: {published.protocol}. Ours: {data}, {scores['fid'].num_samples:,} samples,"
        f" {scores['fid'].label}: unless all of that is the paper's, only the signs and relative changes of the two"
        " sides can be held against each other.",
    ]
    return Table("Beside the paper", columns, cells, notes)


def measures_table(rows: Sequence[dict[str, Any]], scores: Scores) -> Table:
    """What else is known of each scheme: size, training loss, the other scores."""
    names = [name for name in scores.scores if name != "fid"]
    columns = [
        Column(shown_name(name, scores), f"{METRICS[name].better} is better", f".{METRICS[name].digits}f")
        for name in names
    ]
    size = [Column("scheme"), Column("parameters", "trained", ",d"), Column("loss", format=".4f")]
    cells = [
        [row["scheme"], row["parameters"], row["loss"]["mean"], *(_over_seeds(row[name]) for name in names)]
        for row in rows
    ]
    notes = [
        "Loss: mean over the last tenth of the steps. Mean over seeds, scores with 95 % t intervals, same features."
    ]
    return Table("Other measures", [*size, *columns], cells, notes)


def course_table(courses: Mapping[str, Course], reference: str, score: str) -> Table:
    """Whether each scheme is ahead, from when to when, and how much sooner it is as good as the reference ends."""
    columns = [
        Column("scheme"),
        Column("as good", "seeds", align="right"),
        Column("from step", "median", align="right"),
        Column("speed-up", "times", ".3g", align="right"),
        Column("who is ahead", "against the reference"),
    ]
    notes = [
        f"{score} against {reference}, seed by seed. Ahead or behind is said of steps where the paired difference's"
        " interval excludes 0; the intervals hold for all steps and schemes together (Bonferroni).",
        f"As good: from that step on no scored checkpoint is worse than the same seed's {reference} at its last step;"
        " between scored steps the score is taken as linear in log step. Speed-up: the last step over that step,"
        " geometric mean, interval for all schemes together. Where some seed is not as good by the end, or is so from"
        " its first score on, its step is bounded on one side only: the median stands, without interval.",
    ]
    return Table("Time to quality", columns, [_course_cells(*item) for item in courses.items()], notes)


def _course_cells(name: str, course: Course) -> list[Cell]:
    seeds = len(course.reached)
    arrived = sum(at.high < float("inf") for at in course.reached)
    speed: Cell = _range_text(middle(course.speed_ups), ".3g")
    if course.speed_up:
        speed = Measurement.of(course.speed_up)
    return [name, f"{arrived} of {seeds}", _range_text(middle(course.reached), ",.0f"), speed, course.verdict]


def _range_text(found: Range, spec: str) -> str:
    low, high = format(found.low, spec), format(found.high, spec)
    if found.known:
        return low
    if found.high == float("inf"):
        return f"> {low}"
    return f"{low} to {high}" if found.low else f"≤ {high}"


def _over_seeds(row: Mapping[str, float]) -> Measurement:
    return Measurement(row["mean"], row["low"], row["high"])
