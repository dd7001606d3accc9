"""Weights stored in bfloat16 beside float32 ones under autocast: which role loses its updates, and what does it cost?

An update smaller than half the distance to the next number of the type is lost. Which these are depends on the size of
the weights, which a start decides, and on the learning rate.
"""

from collections.abc import Mapping, Sequence
from itertools import product
from statistics import fmean
from typing import get_args

from adaln.analysis.role_updates import updates_by_role
from adaln.report import Cell, Column, Measurement, Section, Table
from adaln.specs import StoredType
from adaln.statistics import Difference, paired_each, t_interval
from adaln.studies.rows import Responses, change_cells, plain_difference, read_responses, study_result
from adaln.studies.study import Outcome, Result, Setting, Study
from adaln.training import update_after

TITLE = "Which role loses its updates where weights are stored in bfloat16?"
STARTS = ("adaln-zero", "adaln-gaussian")
LR_FACTORS = (1.0, 0.1)
"""As training begins, and as a schedule ends."""
TYPES: tuple[StoredType, ...] = get_args(StoredType)
CELLS = tuple(product(STARTS, LR_FACTORS))
Moved = Mapping[str, Mapping[str, float]]
"""Row -> role -> share of the entries that an update changes, mean over seeds."""


def row(start: str, factor: float, stored: StoredType) -> str:
    """The label of a row; its learning rate is over the scale's own."""
    return f"{start}, lr × {factor:g}, {stored} weights"


def reduce(outcomes: Sequence[Outcome]) -> Result:
    """Scores of both types, and what the update after the last step changes of every role."""
    responses = read_responses(outcomes)
    stored, usual = ([row(*cell, one) for cell in CELLS] for one in ("bfloat16", "float32"))
    fid = responses.fid
    changes = paired_each({ours: (fid[ours], fid[theirs]) for ours, theirs in zip(stored, usual, strict=True)})
    moved = {label: over_runs([moved_shares(run) for run in runs]) for label, runs in responses.by_label.items()}
    table = score_table(responses, changes)
    section = Section("Result", [moved_table(moved, responses.num_seeds), table])
    numbers = {
        "score": responses.score,
        "fid": dict(fid),
        "moved": moved,
        "changes": {name: plain_difference(change) for name, change in changes.items()},
    }
    lines = [*(lost_text(cell, moved) for cell in CELLS), score_text(changes, responses.score)]
    return study_result(TITLE, lines, table, [section], responses.by_label, numbers)


def moved_shares(outcome: Outcome) -> dict[str, float]:
    """By role, the share of the entries that the update after a run's last step changes."""
    before, after = update_after(outcome.run, outcome.job.config.steps)
    return {role: numbers[1] or 0.0 for role, numbers in updates_by_role(before, after).items()}


def over_runs(shares: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Mean over runs."""
    return {role: fmean(run[role] for run in shares) for role in shares[0]}


def lost_text(cell: tuple[str, float], moved: Moved) -> str:
    """How much of what moves in float32 is lost in gates, and where most and least, of one start and learning rate."""
    usual, stored = (moved[row(*cell, one)] for one in TYPES)
    lost = {role: 100 * (1 - stored[role] / usual[role]) for role in usual if usual[role]}
    most, least = (choose(lost, key=lost.__getitem__) for choose in (max, min))
    return (
        f"{cell[0]}, lr × {cell[1]:g}: of the entries that an update moves in float32, weights stored in bfloat16 lose"
        f" {lost['gate']:.0f} % in gates, the most in {most} ({lost[most]:.0f} %) and the least in {least}"
        f" ({lost[least]:.0f} %)."
    )


def score_text(changes: Mapping[str, Difference], score: str) -> str:
    """Where storing costs or gains."""
    clear = {name: change for name, change in changes.items() if change.distinguishable}
    words = "; ".join(f"{name} {change.verdict} ({change.absolute.value:+.1f})" for name, change in clear.items())
    return f"By {score}, against float32 weights of the same start and learning rate: {words or 'none told apart'}."


def moved_table(moved: Moved, num_seeds: int) -> Table:
    """A row each, a column for every role."""
    roles = next(iter(moved.values()))
    columns = [Column("start"), Column("lr", "× the scale's", "g"), Column("weights")]
    columns += [Column(role, "%", ".1f") for role in roles]
    rows: list[list[Cell]] = [
        [*cell, stored, *(100 * moved[row(*cell, stored)][role] for role in roles)]
        for cell in CELLS
        for stored in TYPES
    ]
    notes = [f"Of the update that follows the last step, on the run's next batch; mean over {num_seeds} seeds."]
    return Table("Share of the entries that an update changes", columns, rows, notes)


def score_table(responses: Responses, changes: Mapping[str, Difference]) -> Table:
    """A row each; those of bfloat16 against float32 at the same start and learning rate."""
    columns = [
        Column("start"),
        Column("lr", "× the scale's", "g"),
        Column("weights"),
        Column(responses.score, "lower is better", ".1f"),
        Column("change", "against float32", "+.1f"),
        Column("verdict"),
    ]
    rows: list[list[Cell]] = []
    for cell in CELLS:
        for stored in TYPES:
            label = row(*cell, stored)
            score = Measurement.of(t_interval(responses.fid[label]))
            rows.append([*cell, stored, score, *change_cells(changes.get(label))])
    notes = [
        f"Averaged weights, float32 in all rows; mean over {responses.num_seeds} seeds with 95 % t intervals, changes"
        f" paired, intervals and verdicts for all {len(changes)} together (Bonferroni)."
    ]
    return Table(TITLE, columns, rows, notes)


PRECISION = Study(
    "precision",
    TITLE,
    tuple(
        Setting(row(*cell, stored), cell[0], lr_factor=cell[1], param_dtype=stored, steps=25_000, precision="bfloat16")
        for cell, stored in product(CELLS, TYPES)
    ),
    reduce,
)
