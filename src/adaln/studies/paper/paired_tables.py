"""Tables 4 and 10: adaLN-Gaussian against adaLN-Zero under many circumstances, each a comparison of its own."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from statistics import fmean
from typing import Any

from adaln.metrics import METRICS, Scores
from adaln.report import Axis, Block, Cell, Column, Group, Intervals, Marked, Measurement, Page, Section, Table
from adaln.statistics import Difference, paired_each, ratio_interval, t_interval
from adaln.studies.comparison.figures import curves, grids
from adaln.studies.comparison.forms import absolute_and_relative
from adaln.studies.comparison.how_made import data_name, how_made, stand_in_text
from adaln.studies.comparison.schemes import final, group, require_same_seeds, run_names
from adaln.studies.comparison.verdicts import verdict_word
from adaln.studies.plan import Outcome, Result, Study
from adaln.studies.published import PublishedRow, PublishedTable, published_tables
from adaln.views.scores import shown_name

BASE, OTHER = "adaln-zero", "adaln-gaussian"
SHOWN = ("fid", "sfid", "is", "precision", "recall")
PERCENT = ("precision", "recall")
"""Scores that are shares, in percent in the paper and here."""
Pairs = Mapping[str, Mapping[str, Sequence[Outcome]]]
"""Group -> scheme -> its runs, seeds in ascending order."""
Row = dict[str, Any]


def compare_groups(published: PublishedTable, command: str, outcomes: Sequence[Outcome]) -> Result:
    """Both schemes in every group, paired over seeds; the verdicts of all groups hold together."""
    pairs = by_group(outcomes)
    one = final(pairs[outcomes[0].job.group][BASE][0].scores())
    rows = summarise(pairs)
    table = result_table(published.what, rows, one)
    verdict = verdict_lines(rows, shown_name("fid", one))
    sections = [
        Section("Result", [table, change_figure(rows, published, shown_name("fid", one))]),
        *(group_section(row, pairs[row["group"]], published) for row in rows),
        how_made(command, outcomes[0]),
    ]
    data = {
        "title": published.what,
        "seeds": [outcome.job.config.seed for outcome in pairs[outcomes[0].job.group][BASE]],
        "rows": rows,
        "verdict": verdict,
        "runs": {name: run_names(runs) for name, runs in pairs.items()},
    }
    return Result(data, Page(published.what, verdict, sections), table)


def by_group(outcomes: Sequence[Outcome]) -> dict[str, dict[str, list[Outcome]]]:
    """Runs by group and scheme. Raises ValueError where the seeds of the two schemes do not pair up."""
    names = dict.fromkeys(outcome.job.group for outcome in outcomes)
    pairs = {name: group([outcome for outcome in outcomes if outcome.job.group == name]) for name in names}
    for runs in pairs.values():
        require_same_seeds(runs, BASE)
    return pairs


def summarise(pairs: Pairs) -> list[Row]:
    """One plain row per group: every score under both schemes, and how they differ."""
    found = {name: _per_seed(runs) for name, runs in pairs.items()}
    changes = paired_each({name: (values["fid"][OTHER], values["fid"][BASE]) for name, values in found.items()})
    return [
        {
            "group": name,
            "scores": {metric: _both(values) for metric, values in scores.items()},
            "difference": _difference(changes[name]),
        }
        for name, scores in found.items()
    ]


def _per_seed(runs: Mapping[str, Sequence[Outcome]]) -> dict[str, dict[str, list[float]]]:
    """Score -> scheme -> its last value for each seed, in the paper's units."""
    scored = {name: [final(outcome.scores()) for outcome in found] for name, found in runs.items()}
    names = [name for name in SHOWN if name in scored[BASE][0].scores]
    return {
        metric: {name: [_units(metric) * seed[metric].value for seed in seeds] for name, seeds in scored.items()}
        for metric in names
    }


def _units(metric: str) -> int:
    return 100 if metric in PERCENT else 1


def _both(values: Mapping[str, Sequence[float]]) -> Row:
    """Both schemes' means over seeds, and their paired difference by itself (95 %)."""
    change = [a - b for a, b in zip(values[OTHER], values[BASE], strict=True)]
    absolute, relative = t_interval(change), ratio_interval(change, values[BASE])
    return {
        **{name: {"mean": fmean(values[name]), "per_seed": list(values[name])} for name in (BASE, OTHER)},
        "absolute": asdict(absolute),
        "relative": asdict(relative),
    }


def _difference(found: Difference) -> Row:
    return {
        "absolute": asdict(found.absolute),
        "relative": asdict(found.relative),
        "p_value": found.p_value,
        "distinguishable": found.distinguishable,
    }


def result_table(title: str, rows: Sequence[Row], scores: Scores) -> Table:
    """The answer: a row per group."""
    score = shown_name("fid", scores)
    columns = [
        Column(""),
        Column(BASE, score, ".2f"),
        Column(OTHER, score, ".2f"),
        Column("change", format="+.2f"),
        Column("relative", "%", "+.1f"),
        Column("verdict"),
        Column("p", "Holm", ".2g"),
    ]
    cells: list[list[Cell]] = []
    for row in rows:
        base, other = (row["scores"]["fid"][name]["mean"] for name in (BASE, OTHER))
        shown: list[Cell] = [base, Marked(other)] if other < base else [Marked(base), other]
        change = row["difference"]
        cells.append([row["group"], *shown, *absolute_and_relative(change), verdict_word(change), change["p_value"]])
    seeds = len(rows[0]["scores"]["fid"][BASE]["per_seed"])
    notes = [
        f"{score}, lower is better: in {scores['fid'].label}. Mean over {seeds} seeds. Changes are paired over the same"
        f" seeds; their intervals hold for all {len(rows)} rows together (Bonferroni; relative ones are Fieller's)."
        " Verdicts: paired t tests at 5 % for all together (Holm).",
        "The names of the rows are the paper's; what stood in for them is told under each.",
    ]
    return Table(title, columns, cells, notes)


def verdict_lines(rows: Sequence[Row], score: str) -> list[str]:
    """Which groups tell the schemes apart, by how much; which do not."""
    clear = [row for row in rows if row["difference"]["distinguishable"]]
    unclear = [row["group"] for row in rows if row not in clear]
    lines = [
        f"{row['group']}: {OTHER} is {verdict_word(row['difference'])} than {BASE}: {score}"
        f" {row['difference']['absolute']['value']:+.2f} points"
        f" ({100 * row['difference']['relative']['value']:+.1f} % relative)."
        for row in clear
    ]
    if unclear:
        lines.append(
            f"Not distinguishable by {score} at this size: {'; '.join(unclear)}. A difference smaller than the"
            " intervals in the table may exist; these runs cannot show it."
        )
    return lines


def change_figure(rows: Sequence[Row], published: PublishedTable, score: str) -> Intervals:
    """Relative changes of all groups, ours with intervals beside the paper's."""
    theirs = published.by_label()
    ours = [absolute_and_relative(row["difference"])[1] for row in rows]
    caption = (
        f"Relative change of {score} from {BASE} to {OTHER}, n = {len(rows)} comparisons; ours with intervals that hold"
        " for all together, the paper's of one run each. Below 0 the Gaussian start is better."
    )
    paper = [100 * _published_change(theirs, row["group"], "fid")[1] for row in rows]
    groups = [Group("ours", [one if _is_finite(one) else one.value for one in ours]), Group("published", paper)]
    axis = Axis("relative change", "%")
    return Intervals("Relative change under every circumstance", caption, axis, [row["group"] for row in rows], groups)


def group_section(row: Row, runs: Mapping[str, Sequence[Outcome]], published: PublishedTable) -> Section:
    """One group: what was trained, all scores beside the paper's, the score over steps, samples."""
    by_scheme = {name: list(found) for name, found in runs.items()}
    first = by_scheme[BASE][0]
    base = published.by_label()[f"{row['group']}: {BASE}"]
    blocks: list[Block] = [
        f"Here: {stand_in_text(first, base.setting)}",
        group_table(row, published, final(first.scores()), data_name(first)),
        curves(by_scheme)[1],
        *grids(by_scheme),
    ]
    return Section(row["group"], blocks)


def group_table(row: Row, published: PublishedTable, scores: Scores, data: str) -> Table:
    """Every score of a group, ours and the paper's, with absolute and relative changes of both."""
    theirs = published.by_label()
    columns = [Column("score"), *(Column(name, format=".2f") for name in ("zero", "gaussian"))]
    columns += [Column("change", format="+.2f"), Column("change", "%", "+.1f")]
    columns += [Column(f"published {name}", format=".2f") for name in ("zero", "gaussian")]
    columns += [Column("change", format="+.2f"), Column("change", "%", "+.1f")]
    cells: list[list[Cell]] = []
    for metric in SHOWN:
        arrow = "↓" if METRICS[metric].better == "lower" else "↑"
        unit = " in %" if metric in PERCENT else ""
        ours = _our_cells(row["scores"].get(metric))
        quoted = [Marked(value, "muted") for value in _published_cells(theirs, row["group"], metric)]
        cells.append([f"{shown_name(metric, scores)}{unit} {arrow}", *ours, *quoted])
    notes = [
        "Ours: mean over seeds, paired changes with 95 % intervals, each by itself (relative: Fieller). Published:"
        f" {published.protocol}; one run. Ours: {data}, {scores['fid'].num_samples:,} samples, {scores['fid'].label}.",
    ]
    return Table(f"{row['group']}: all scores beside the paper", columns, cells, notes)


def _our_cells(found: Row | None) -> list[Cell]:
    if found is None:
        return [None] * 4
    means = [found[name]["mean"] for name in (BASE, OTHER)]
    return [*means, *absolute_and_relative(found)]


def _published_cells(theirs: Mapping[str, PublishedRow], name: str, metric: str) -> list[float | None]:
    values = [theirs[f"{name}: {scheme}"].scores.get(metric) for scheme in (BASE, OTHER)]
    if None in values:
        return [None] * 4
    absolute, relative = _published_change(theirs, name, metric)
    return [*values, absolute, 100 * relative]


def _published_change(theirs: Mapping[str, PublishedRow], name: str, metric: str) -> tuple[float, float]:
    """The paper's change, absolute and over the base."""
    base, other = (theirs[f"{name}: {scheme}"].scores[metric] for scheme in (BASE, OTHER))
    return other - base, (other - base) / base


def _is_finite(found: Measurement) -> bool:
    return abs(found.low) != float("inf") != abs(found.high)


def table_study(published: PublishedTable) -> Study:
    """The study that repeats a published table of pairs."""
    settings = tuple(row.setting for row in published.rows)
    return Study(published.name, published.what, settings, partial(compare_groups, published))


PAIRED_TABLES = {name: table_study(published_tables()[name]) for name in ("table4", "table10")}
