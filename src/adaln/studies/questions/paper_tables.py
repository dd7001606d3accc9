"""Tables 2 to 10 of the paper: rows against one reference, or in 4 and 10 pairs under many circumstances.

A pair is adaLN-Gaussian against adaLN-Zero, each circumstance a comparison of its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import isfinite
from statistics import fmean
from typing import Any

from adaln.metrics import METRICS, Scores
from adaln.report import Axis, Block, Cell, Column, Group, Intervals, Marked, Measurement, Section, Table
from adaln.statistics import Difference, paired_differences, paired_each
from adaln.studies.compare import compare_schemes, curves, grids
from adaln.studies.comparison_tables import loss_sections
from adaln.studies.judged import by_losses
from adaln.studies.published_numbers import PublishedRow, PublishedTable, published_tables
from adaln.studies.rows import (
    ByLabel,
    absolute_and_relative,
    change_text,
    data_name,
    final,
    network_text,
    paired,
    run_names,
    study_result,
)
from adaln.studies.study import Outcome, Result, Setting, Study
from adaln.views.scores import shown_name

BASE, OTHER = "adaln-zero", "adaln-gaussian"
OF_PAIRS = ("table4", "table10")
OF_ONE_REFERENCE = ("table2", "table3", "table5", "table6", "table7", "table8", "table9")
SHOWN = ("fid", "sfid", "is", "precision", "recall")
PERCENT = ("precision", "recall")
"""Scores that are shares, in percent in the paper and here."""


@dataclass(frozen=True, slots=True)
class GroupRow:
    """One circumstance: every score under both schemes, and how they differ as one of all groups."""

    group: str
    scores: Mapping[str, Mapping[str, Sequence[float]]]
    """Metric -> scheme -> its value for each seed."""
    difference: Difference

    def means(self, metric: str) -> list[float]:
        """Over seeds, of `BASE` and of `OTHER`."""
        return [fmean(self.scores[metric][name]) for name in (BASE, OTHER)]

    def alone(self, metric: str) -> Difference:
        """How the schemes differ in one score, by itself."""
        return paired_differences(self.scores[metric], BASE)[OTHER]

    def to_json(self) -> dict[str, Any]:
        """For machines."""
        scores: dict[str, dict[str, Any]] = {}
        for metric, values in self.scores.items():
            seeds = {name: {"mean": fmean(values[name]), "per_seed": values[name]} for name in (BASE, OTHER)}
            change = self.alone(metric)
            scores[metric] = {**seeds, "absolute": change.absolute, "relative": change.relative}
        change = self.difference
        verdict = {"p_value": change.p_value, "distinguishable": change.distinguishable}
        difference = {"absolute": change.absolute, "relative": change.relative, **verdict}
        return {"group": self.group, "scores": scores, "difference": difference}


def compare_groups(published: PublishedTable, outcomes: Sequence[Outcome]) -> Result:
    """Both schemes in every group, paired over seeds; the verdicts of all groups hold together."""
    pairs = by_group(outcomes)
    first = pairs[outcomes[0].job.group]
    scores = final(first[BASE][0].scores())
    rows, score = group_rows(pairs), shown_name("fid", scores)
    table = result_table(published.what, rows, scores)
    sections = [
        Section("Result", [table, change_figure(rows, published, score)]),
        *loss_sections({f"{name}, by {of.name}": of for name, runs in pairs.items() for of in by_losses(runs, BASE)}),
        *(group_section(row, pairs[row.group], published) for row in rows),
    ]
    seeds = [outcome.job.config.seed for outcome in first[BASE]]
    numbers = {"seeds": seeds, "rows": [row.to_json() for row in rows]}
    result = study_result(published.what, verdict_lines(rows, score), table, sections, first, numbers)
    return replace(result, more={"runs": {name: run_names(runs) for name, runs in pairs.items()}})


def by_group(outcomes: Sequence[Outcome]) -> dict[str, dict[str, list[Outcome]]]:
    """Runs by group and scheme. Raises ValueError where the seeds of the two schemes do not pair up."""
    names = dict.fromkeys(outcome.job.group for outcome in outcomes)
    return {name: paired([outcome for outcome in outcomes if outcome.job.group == name], BASE) for name in names}


def group_rows(pairs: Mapping[str, ByLabel]) -> list[GroupRow]:
    """Every score of every group under both schemes, and how they differ."""
    values = {name: _per_seed(runs) for name, runs in pairs.items()}
    changes = paired_each({name: (scores["fid"][OTHER], scores["fid"][BASE]) for name, scores in values.items()})
    return [GroupRow(name, scores, changes[name]) for name, scores in values.items()]


def _per_seed(runs: ByLabel) -> dict[str, dict[str, list[float]]]:
    """Score -> scheme -> its last value for each seed, in the paper's units."""
    scored = {name: [final(outcome.scores()) for outcome in of_scheme] for name, of_scheme in runs.items()}
    return {
        metric: {
            name: [(100 if metric in PERCENT else 1) * seed[metric].value for seed in seeds]
            for name, seeds in scored.items()
        }
        for metric in SHOWN
        if metric in scored[BASE][0].scores
    }


def result_table(title: str, rows: Sequence[GroupRow], scores: Scores) -> Table:
    """The answer: a row per group."""
    score = shown_name("fid", scores)
    columns = [
        Column(""),
        Column(BASE, score, ".2f"),
        Column(OTHER, score, ".2f"),
        Column("change", format="+.2f"),
        Column("relative", "%", "+.1f"),
        Column("verdict"),
        Column("p", "Bonferroni", ".2g"),
    ]
    cells: list[list[Cell]] = []
    for row in rows:
        base, other = row.means("fid")
        means: list[Cell] = [base, Marked(other)] if other < base else [Marked(base), other]
        change = row.difference
        cells.append([row.group, *means, *absolute_and_relative(change), change.verdict, change.p_value])
    seeds = len(rows[0].scores["fid"][BASE])
    notes = [
        f"{score}, lower is better: in {scores['fid'].label}. Mean over {seeds} seeds. Changes are paired over the same"
        f" seeds; their intervals hold for all {len(rows)} rows together (Bonferroni; relative ones are Fieller's)."
        " Verdicts: paired t tests at 5 % for all together (Bonferroni).",
        "The names of the rows are the paper's; what stood in for them is told under each.",
    ]
    return Table(title, columns, cells, notes)


def verdict_lines(rows: Sequence[GroupRow], score: str) -> list[str]:
    """Which groups tell the schemes apart, by how much; which do not."""
    unclear = [row.group for row in rows if not row.difference.distinguishable]
    lines = [
        f"{row.group}: {change_text(OTHER, row.difference, BASE, score)}."
        for row in rows
        if row.difference.distinguishable
    ]
    if unclear:
        lines.append(
            f"Not distinguishable by {score} at this size: {'; '.join(unclear)}. A difference smaller than the"
            " intervals in the table may exist; these runs cannot show it."
        )
    return lines


def change_figure(rows: Sequence[GroupRow], published: PublishedTable, score: str) -> Intervals:
    """Relative changes of all groups, ours with intervals beside the paper's."""
    theirs = published.by_label()
    ours = [Measurement.of(row.difference.relative, 100) for row in rows]
    caption = (
        f"Relative change of {score} from {BASE} to {OTHER}, n = {len(rows)} comparisons; ours with intervals that hold"
        " for all together, the paper's of one run each. Below 0 the Gaussian start is better."
    )
    paper = [_published_cells(theirs, row.group, "fid")[3] for row in rows]
    known = [m if isfinite(m.high - m.low) else m.value for m in ours]
    return Intervals(
        "Relative change under every circumstance",
        caption,
        Axis("relative change", "%"),
        [row.group for row in rows],
        [Group("ours", known), Group("published", paper)],
    )


def group_section(row: GroupRow, by_scheme: ByLabel, published: PublishedTable) -> Section:
    """One group: what was trained, all scores beside the paper's, the score over steps, samples."""
    first = by_scheme[BASE][0]
    base = published.by_label()[f"{row.group}: {BASE}"]
    blocks: list[Block] = [
        f"Here: {stand_in_text(first, base.setting)}",
        group_table(row, published, final(first.scores()), data_name(first)),
        curves(by_scheme)[0],
        *grids(by_scheme),
    ]
    return Section(row.group, blocks)


def stand_in_text(outcome: Outcome, setting: Setting) -> str:
    """What a run used, and what the paper used in its place."""
    data, config, spec = outcome.run.manifest["data"], outcome.job.config, outcome.run.spec
    classes = f"{spec.num_classes} classes" if spec.num_classes else "no classes"
    mirrored = ", mirrored at random" if config.data.flip else ""
    return (
        f"{network_text(outcome)} on {data_name(outcome)} ({data['num_images']:,} of {spec.channels} x {spec.height} x"
        f" {spec.width}, {classes}{mirrored}), {config.steps:,} steps, CFG {outcome.job.sample.guidance.scale:g}; the"
        f" paper: {setting.model} on {setting.data}, {setting.steps:,} steps, CFG {setting.guidance:g}."
    )


def group_table(row: GroupRow, published: PublishedTable, scores: Scores, data: str) -> Table:
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
        known = metric in row.scores
        ours = [*row.means(metric), *absolute_and_relative(row.alone(metric))] if known else [None] * 4
        quoted = [Marked(value, "muted") for value in _published_cells(theirs, row.group, metric)]
        cells.append([f"{shown_name(metric, scores)}{unit} {arrow}", *ours, *quoted])
    notes = [
        "Ours: mean over seeds, paired changes with 95 % intervals, each by itself (relative: Fieller). Published:"
        f" {published.protocol}; one run. Ours: {data}, {scores['fid'].num_samples:,} samples, {scores['fid'].label}."
    ]
    return Table(f"{row.group}: all scores beside the paper", columns, cells, notes)


def _published_cells(theirs: Mapping[str, PublishedRow], name: str, metric: str) -> list[float | None]:
    """The paper's score under both schemes, the change, and the change in percent."""
    base, other = (theirs[f"{name}: {scheme}"].scores.get(metric) for scheme in (BASE, OTHER))
    if base is None or other is None:
        return [None] * 4
    return [base, other, other - base, 100 * ((other - base) / base)]


def table_study(published: PublishedTable) -> Study:
    """The study that repeats a published table: its pairs, or its rows against the first of them or adaLN-Zero."""
    settings = tuple(row.setting for row in published.rows)
    labels = [setting.label for setting in settings]
    reference = BASE if BASE in labels else labels[0]
    reduce = partial(compare_schemes, published.what, reference=reference, published=published)
    if published.name in OF_PAIRS:
        reduce = partial(compare_groups, published)
    return Study(published.name, published.what, settings, reduce)


PAPER_TABLES = {name: table_study(published_tables()[name]) for name in (*OF_ONE_REFERENCE, *OF_PAIRS)}
