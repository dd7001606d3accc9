"""A comparison as tables, and in plain words what its numbers say and what they do not."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from adaln.config import RunConfig
from adaln.metrics import METRICS
from adaln.models import OwnConfig
from adaln.report import Cell, Column, Command, Marked, Measurement, Section, Table
from adaln.statistics import noise_factors, t_interval
from adaln.studies.answer import answer, more
from adaln.studies.judged import Judged
from adaln.studies.published_numbers import PublishedTable
from adaln.studies.rows import Comparison, Row, absolute_and_relative, badge, change_text
from adaln.studies.study import Outcome
from adaln.studies.time_to_quality import NO_DIFFERENCE, Course, Range, middle
from adaln.views.scores import shown_name

AT_THE_END_ONLY = "different at the end, though not by the stricter test of all steps together"


def result_table(title: str, judged: Judged) -> Table:
    """The table that a reader came for."""
    name, digits = judged.name, judged.digits
    columns = [
        Column("scheme"),
        Column("verdict"),
        Column(name, "lower is better", f".{digits}f"),
        Column("change", name, f"+.{digits}f"),
        Column("relative", "%", "+.1f"),
    ]
    means = {label: t_interval(values) for label, values in judged.values.items()}
    best = min(mean.value for mean in means.values())
    cells: list[list[Cell]] = []
    for label, mean in sorted(means.items(), key=lambda item: item[1].value):
        value, change = Measurement.of(mean), judged.changes.get(label)
        changed = absolute_and_relative(change) if change else [None] * 2
        verdict = badge(change.verdict) if change else Marked("the reference", "muted")
        cells.append([label, verdict, Marked(value) if mean.value == best else value, *changed])
    notes = [
        judged.about,
        f"Mean over {judged.num_seeds} seeds, 95 % t intervals in brackets. Changes are against {judged.reference},"
        f" paired over the same seeds; their intervals hold for all {len(judged.changes)} comparisons together"
        " (Bonferroni; relative ones are Fieller's). A verdict says what its interval says.",
    ]
    return Table(title, columns, cells, notes)


def start_with(name: str, scheme: str, outcome: Outcome) -> Command:
    """How to use what won: `scheme` is a name or a file, `outcome` one of its runs."""
    lines = [
        f"{train_longer(outcome.job.config, outcome.run.path)}  # this network and data, ten times as long",
        f"adaln train PRESET --scheme {scheme}  # any other",
        f"adaln.initialise(network, {scheme!r})  # in Python",
    ]
    return Command("\n".join(lines), f"To start with {name}")


def train_longer(config: RunConfig, path: Path) -> str:
    """The command that trains a run ten times as long."""
    own = f" --model {config.model.factory}" if isinstance(config.model, OwnConfig) else ""
    return f"adaln train {path}{own} --steps {10 * config.steps}"


def loss_sections(losses: Mapping[str, Judged]) -> list[Section]:
    """Held-out losses as a section with a table by each title; none where there are none."""
    tables = [result_table(title, judged) for title, judged in losses.items()]
    return [Section("Held-out loss", tables)] if tables else []


def judged_text(judged: Judged) -> str:
    """What differs from the reference by it and what may not, in one line."""
    differing = [
        change_text(label, change, judged.reference, "change", judged.digits + 1)
        for label, change in judged.changes.items()
        if change.distinguishable
    ]
    unclear = [label for label, change in judged.changes.items() if not change.distinguishable]
    rest = [f"not distinguishable from {judged.reference}: {'; '.join(unclear)}"] if unclear else []
    return f"By {judged.name}, over {judged.num_seeds} seeds: {'; '.join([*differing, *rest])}."


def seeds_table(comparison: Comparison) -> Table:
    """How sure a verdict is, and how many seeds it would take at the noise found here."""
    columns = [
        Column("scheme"),
        Column("p", "Bonferroni", ".2g"),
        Column("noise", "std of the paired difference", ".2f"),
        Column("seeds to see 2 %", align="right"),
        Column("seeds to see the change found", align="right"),
    ]
    cells: list[list[Cell]] = [
        [row.label, d.p_value, d.noise, _count(row.seeds_for_2_percent), _count(row.seeds_for_this)]
        for row in comparison.rows
        if (d := row.difference)
    ]
    seeds = comparison.responses.num_seeds
    notes = [
        "p: paired t test, adjusted for all comparisons together; at most 0.05 is a verdict. Seeds: with so many a test"
        f" at 5 % / {max(1, len(cells))} sees such a true change four times in five."
    ]
    if seeds > 1:
        low, high = noise_factors(seeds)
        notes.append(
            f"A noise estimated from {seeds} seeds is rough: the true one is {low:.2f} to {high:.1f} times it (95 %),"
            " and seeds go with its square."
        )
    return Table("Noise and seeds needed", columns, cells, notes)


def published_table(comparison: Comparison, published: PublishedTable, data: str) -> Table:
    """Our change beside the paper's, absolute and relative, row by row."""
    theirs, scores = published.by_label(), comparison.responses.scores
    base = theirs[comparison.reference].fid
    columns = [
        Column("scheme"),
        Column("ours", comparison.responses.score, ".1f"),
        Column("change", format="+.1f"),
        Column("change", "%", "+.1f"),
        Column("published", "FID", ".2f"),
        Column("change", format="+.2f"),
        Column("change", "%", "+.1f"),
        Column("published", "IS", ".2f"),
    ]
    cells: list[list[Cell]] = []
    for row in comparison.rows:
        change, paper = row.difference, theirs[row.label]
        moved = None if paper.fid is None or base is None or not change else paper.fid - base
        ours = [change.absolute.value, 100 * change.relative.value] if change else [None, None]
        paper_cells = [paper.fid, moved, None if moved is None or base is None else 100 * moved / base]
        quoted = [Marked(value, "muted") for value in (*paper_cells, paper.scores.get("is"))]
        cells.append([row.label, row.fid.value, *ours, *quoted])
    notes = [
        f"Published: {published.protocol}. Ours: {data}, {scores['fid'].num_samples:,} samples,"
        f" {scores['fid'].label}: unless all of that is the paper's, only the signs and relative changes of the two"
        " sides can be held against each other."
    ]
    return Table("Beside the paper", columns, cells, notes)


def measures_table(comparison: Comparison) -> Table:
    """What else is known of each scheme: size, training loss, the other scores."""
    _, *names = comparison.rows[0].scores
    columns = [
        Column(shown_name(name, comparison.responses.scores), f"{metric.better} is better", f".{metric.digits}f")
        for name in names
        if (metric := METRICS[name])
    ]
    size = [Column("scheme"), Column("parameters", "trained", ",d"), Column("loss", format=".4f")]
    cells: list[list[Cell]] = [
        [
            *(row.label, row.parameters, t_interval(row.losses).value),
            *(Measurement.of(t_interval(row.scores[name])) for name in names),
        ]
        for row in comparison.rows
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
    known = course.speed_up
    speed = Measurement.of(known) if known else _range_text(middle(course.speed_ups), ".3g")
    return [name, f"{arrived} of {seeds}", _range_text(middle(course.reached), ",.0f"), speed, course.verdict]


def _range_text(bounds: Range, spec: str) -> str:
    low, high = format(bounds.low, spec), format(bounds.high, spec)
    if bounds.known:
        return low
    if bounds.high == float("inf"):
        return f"> {low}"
    return f"{low} to {high}" if bounds.low else f"≤ {high}"


def verdict_text(comparison: Comparison, courses: Mapping[str, Course]) -> list[str]:
    """The answer, a line for each scheme that differs, one for those that may not, the course of training, advice."""
    changes, score = comparison.changes, comparison.responses.score
    seeds, reference = comparison.responses.num_seeds, comparison.reference
    lines = [
        answer(comparison),
        *more(comparison),
        *(
            f"{change_text(label, change, reference, score)} over {seeds} seeds."
            for label, change in changes.items()
            if change.distinguishable
        ),
    ]
    if unclear := [label for label, change in changes.items() if not change.distinguishable]:
        lines.append(
            f"Not distinguishable from {reference} by {score} at this size, over {seeds} seeds: {'; '.join(unclear)}."
            " A difference smaller than the intervals in the table may exist; these runs cannot show it."
        )
    if courses:
        different = {label for label, change in changes.items() if change.distinguishable}
        lines.append(f"Over training, by {score} against {reference}: {_over_steps(courses, different)}.")
    return [*lines, *_advice([row for row in comparison.rows if row.difference])]


def _over_steps(courses: Mapping[str, Course], different: Collection[str]) -> str:
    """The courses; a scheme that is `different` at the end may not be by the test of all steps together."""
    alike: dict[str, list[str]] = {}
    for name, course in courses.items():
        quiet = name in different and course.verdict == NO_DIFFERENCE
        alike.setdefault(AT_THE_END_ONLY if quiet else course.verdict, []).append(name)
    return "; ".join(f"{verdict} ({'; '.join(names)})" for verdict, names in alike.items())


def _advice(rows: Sequence[Row]) -> list[str]:
    """How many seeds it would take; nothing where the noise is not known."""
    small = sorted({row.seeds_for_2_percent or 0 for row in rows} - {0})
    if not small:
        return []
    same = small[0] == small[-1]
    span = f"{small[0]:,} seeds" if same else f"{small[0]:,} to {small[-1]:,} seeds, depending on the scheme"
    return [f"To see a change of 2 % at the noise of these runs you need about {span}."]


def _count(seeds: int | None) -> str:
    """A number of seeds, where there is one."""
    return "–" if seeds is None else f"{seeds:,}"
