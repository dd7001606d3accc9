"""Five schemes: our quickstart, and figures 1, 3 and 9, their scores against steps and their first iterations."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from adaln.report import Axis, Block, Cell, Column, Lines, Measurement, Section, Table
from adaln.statistics import Difference, paired_differences, t_interval
from adaln.studies.compare import REFERENCE, compare_schemes, comparison_result, curves, mean_series, score_by_step
from adaln.studies.published_numbers import published_tables
from adaln.studies.rows import Responses, compare, read_responses, room, study_result
from adaln.studies.study import Outcome, Result, Setting, Study
from adaln.studies.time_to_quality import NO_DIFFERENCE, courses
from adaln.views.scores import shown_name

PUBLISHED = published_tables()["figure1"]
SCHEMES_SHOWN = tuple(row.setting.label for row in PUBLISHED.rows)
"""In the paper's order: each is better than the one before, by FID and by IS."""
FIRST = "first iterations"
EARLY_TITLE = "Figure 3: the first iterations of five schemes"
BOTH_TITLE = "Figure 9: five schemes, over training and at its beginning"


def compare_scores(title: str, outcomes: Sequence[Outcome]) -> Result:
    """Figures 1 and 9: FID and IS against steps, and whether the schemes rank as in the paper; 9 with Figure 3."""
    whole = [outcome for outcome in outcomes if outcome.job.group != FIRST]
    early = [outcome for outcome in outcomes if outcome.job.group == FIRST]
    comparison = compare(whole, REFERENCE)
    verdict = [rank_line({row.label: row.fid.value for row in comparison.rows})]
    sections = [Section("Inception Score over training", [is_curves(comparison.responses)])]
    data: dict[str, Any] = {}
    if early:
        first = compare_beginnings(early)
        verdict += first.verdict
        sections.append(Section(EARLY_TITLE, first.sections[0].blocks))
        data["first_iterations"] = first.data
    result = comparison_result(title, comparison, PUBLISHED).led_by([], sections, data, position=1)
    answer, *others = result.verdict
    return replace(result, verdict=[answer, *verdict, *others])


def rank_line(means: Mapping[str, float]) -> str:
    """The schemes from worst to best, the paper's order beside ours."""
    ours = " > ".join(sorted(means, key=means.__getitem__, reverse=True))
    theirs = " > ".join(SCHEMES_SHOWN)
    same = "the same order" if ours == theirs else "another order"
    return f"Worst first, by means over seeds: {ours}; in the paper, by FID: {theirs}: {same}."


def is_curves(responses: Responses) -> Lines:
    """Inception Score against steps."""
    scores = responses.scores
    title = f"{shown_name('is', scores)} against steps"
    caption = (
        f"Mean over n = {responses.num_seeds} seeds; the band is the least and the greatest. EMA weights;"
        f" {scores['is'].label}."
    )
    axis = Axis(shown_name("is", scores), "higher is better")
    read = partial(score_by_step, "is")
    series = [mean_series(name, runs, read, band=True) for name, runs in responses.by_label.items()]
    return Lines(title, caption, Axis("step", "optimiser updates"), axis, series)


def compare_beginnings(outcomes: Sequence[Outcome]) -> Result:
    """Figure 3: losses over the first iterations and the scores at their end, paired over seeds against adaLN-Zero."""
    responses = read_responses(outcomes, REFERENCE)
    by_scheme, score, steps = responses.by_label, responses.score, outcomes[0].job.config.steps
    losses = {name: [outcome.losses() for outcome in runs] for name, runs in by_scheme.items()}
    means = {name: [sum(seed.values()) / len(seed) for seed in seeds] for name, seeds in losses.items()}
    changes = {
        what: paired_differences(values, REFERENCE) for what, values in (("loss", means), ("score", responses.fid))
    }
    table = early_table(means, responses.fid, changes, score, steps)
    over_steps = {name: course.verdict for name, course in courses(losses, REFERENCE).items()}
    verdict = early_verdict(changes, over_steps, score, steps)
    score_figure, loss_figure = curves(by_scheme)
    shown: list[Block] = [table, loss_figure]
    if len(by_scheme[REFERENCE][0].job.score_at) > 1:
        shown.append(score_figure)
    rows = []
    for name in by_scheme:
        row: dict[str, Any] = {"scheme": name, "loss_per_seed": means[name], "score_per_seed": responses.fid[name]}
        for what, differences in changes.items():
            if change := differences.get(name):
                row |= {f"{what}_change": change.relative, f"{what}_p_value": change.p_value}
        rows.append(row)
    seeds = [outcome.job.config.seed for outcome in by_scheme[REFERENCE]]
    numbers = {"seeds": seeds, "rows": rows, "loss_over_steps": over_steps}
    return study_result(EARLY_TITLE, verdict, table, [Section("Result", shown)], by_scheme, numbers)


def early_table(
    losses: Mapping[str, Sequence[float]],
    scores: Mapping[str, Sequence[float]],
    changes: Mapping[str, Mapping[str, Difference]],
    score: str,
    steps: int,
) -> Table:
    """Mean loss over the first iterations and the score at their end, and both relative changes."""
    columns = [
        Column("scheme"),
        Column("loss", f"mean over {steps} iterations", ".4f"),
        Column("relative", "%", "+.2f"),
        Column(score, f"after {steps}", ".1f"),
        Column("relative", "%", "+.2f"),
        Column("verdict"),
    ]
    rows: list[list[Cell]] = []
    for name in losses:
        loss, value = t_interval(losses[name]).value, t_interval(scores[name]).value
        pair = [changes[what].get(name) for what in ("loss", "score")]
        cells = [Measurement.of(change.relative, 100) if change else None for change in pair]
        rows.append([name, loss, cells[0], value, cells[1], alike_word(pair)])
    notes = [
        f"Mean over {len(losses[REFERENCE])} seeds; changes against {REFERENCE}, paired over the same seeds, with"
        f" intervals for all {len(losses) - 1} schemes together (Fieller, Bonferroni). Verdict: paired t tests of loss"
        " and of score, each at 5 % for all schemes together (Bonferroni)."
    ]
    return Table(EARLY_TITLE, columns, rows, notes)


def alike_word(changes: Sequence[Difference | None]) -> str | None:
    """Whether a scheme is told apart from the reference by its loss or its score."""
    words = [word for word, change in zip(("loss", "score"), changes, strict=True) if change and change.distinguishable]
    if changes[0] is None:
        return None
    return f"unlike by {' and '.join(words)}" if words else "not told apart"


def early_verdict(
    changes: Mapping[str, Mapping[str, Difference]], over_steps: Mapping[str, str], score: str, steps: int
) -> list[str]:
    """Alike or not, and how large a difference these runs leave room for."""
    told = {scheme for found in changes.values() for scheme, change in found.items() if change.distinguishable}
    here = f"unlike {REFERENCE} are {', '.join(sorted(told))}" if told else f"no scheme is told apart from {REFERENCE}"
    lines = [f"Over the first {steps} iterations {here}; in the paper all variants are alike over the first 160."]
    for what, name in (("loss", "training loss"), ("score", score)):
        apart = [scheme for scheme, change in changes[what].items() if change.distinguishable]
        most = room(change.relative for change in changes[what].values())
        alike = f"unlike {REFERENCE}'s: {', '.join(apart)}" if apart else f"no scheme is told apart from {REFERENCE}"
        size = f"up to {100 * most:.1f} %" if most < float("inf") else "any size"
        lines.append(f"By {name}: {alike}; the intervals leave room for differences of {size}.")
    parted = "; ".join(f"{scheme}: {course}" for scheme, course in over_steps.items() if course != NO_DIFFERENCE)
    return [*lines, f"By loss, iteration by iteration (ahead: lower): {parted or NO_DIFFERENCE}."]


QUICKSTART = Study(
    "quickstart",
    "Five conditioning schemes",
    tuple(Setting(name, name) for name in SCHEMES_SHOWN),
    partial(compare_schemes, "Five conditioning schemes"),
    seeds=8,
    races=REFERENCE,
)
_WHOLE = tuple(row.setting for row in PUBLISHED.rows)
_EARLY = tuple(Setting(name, name, steps=160, group=FIRST) for name in SCHEMES_SHOWN)
SCORE_FIGURES = {
    "figure1": Study("figure1", PUBLISHED.what, _WHOLE, partial(compare_scores, PUBLISHED.what)),
    "figure3": Study("figure3", EARLY_TITLE, _EARLY, compare_beginnings),
    "figure9": Study("figure9", BOTH_TITLE, (*_WHOLE, *_EARLY), partial(compare_scores, BOTH_TITLE)),
}
