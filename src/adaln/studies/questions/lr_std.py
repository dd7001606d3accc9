"""Learning rate x std: a start matters only while it lasts, and Adam's first steps are as long as the learning rate."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from statistics import fmean

from adaln.analysis import Group
from adaln.report import Block, Cell, Column, Matrix, Measurement, Section, Table
from adaln.statistics import Difference, paired_each, t_interval
from adaln.studies.published_numbers import gaussian_scheme
from adaln.studies.rows import Responses, change_cells, choices, plain_difference, read_responses, study_result
from adaln.studies.study import Outcome, Result, Setting, Study

LR_FACTORS = (0.25, 1.0, 4.0)
STDS = (0.0, 1e-3, 1e-2)
STARTS = tuple(product(LR_FACTORS, STDS[1:]))
"""All cells of the grid that do not start at zero."""
UPDATES = (1, 2, 10)
TITLE = "Learning rate x std: how long does a start last?"
Left = Mapping[str, Mapping[int, float | None]]
"""Row -> updates -> share of the gates' variance that is the start's; None where it was not recorded."""


def row(factor: float, std: float) -> str:
    """The label of a cell of the grid; its learning rate is over the scale's own."""
    return f"lr × {factor:g}, std {std:g}"


def reduce(outcomes: Sequence[Outcome]) -> Result:
    """Score and what is left of the start over the grid; every start against zero at the same learning rate."""
    responses = read_responses(outcomes)
    left = {row(*cell): share_left(responses.by_label[row(*cell)]) for cell in STARTS}
    pairs = {(lr, std): (responses.fid[row(lr, std)], responses.fid[row(lr, 0.0)]) for lr, std in STARTS}
    changes = paired_each({row(*cell): pair for cell, pair in pairs.items()})
    rates = {factor: responses.by_label[row(factor, 0.0)][0].job.config.optim.lr for factor in LR_FACTORS}
    table = grid_table(responses, changes, left, rates)
    blocks: list[Block] = [table, score_map(responses, rates), left_map(left, rates)]
    numbers = {
        "score": responses.score,
        "learning_rates": {f"{factor:g}": lr for factor, lr in rates.items()},
        "fid": dict(responses.fid),
        "share_of_gate_variance_left": {name: {str(k): v for k, v in shares.items()} for name, shares in left.items()},
        "changes": {name: plain_difference(change) for name, change in changes.items()},
    }
    lines = verdict(responses, changes, left, rates)
    result = study_result(TITLE, lines, table, [Section("Result", blocks)], responses.by_label, numbers)
    return replace(result, choices=choices(responses.by_label[row(1.0, 0.0)][0]))


def share_left(runs: Sequence[Outcome]) -> dict[int, float | None]:
    """Variance of the gates' weights at the start over that after so many updates, mean over seeds.

    What an update adds does not depend on the draw it is added to (to first order), so variances add up and the ratio
    is the share of the start. It is 1 after the first update: the last layer, at zero, lets no gradient through.
    """
    stds = [{r.step: r.moments.std or 0.0 for r in run.recording() if r.group == Group("gate")} for run in runs]
    return {
        k: fmean((seed[0] / seed[k]) ** 2 for seed in stds) if all(seed.get(k) for seed in stds) else None
        for k in UPDATES
    }


def verdict(
    responses: Responses, changes: Mapping[str, Difference], left: Left, rates: Mapping[float, float]
) -> list[str]:
    """How long the smaller start lasts at every rate, where a start is told from zero, and the best cell."""
    lasting = "; ".join(f"at lr {lr:g} {_shares(left[row(factor, STDS[1])])}" for factor, lr in rates.items())
    clear = [(name, change) for name, change in changes.items() if change.distinguishable]
    words = [f"{name} {change.verdict} ({change.absolute.value:+.1f})" for name, change in clear]
    best = min(responses.fid, key=lambda name: fmean(responses.fid[name]))
    return [
        f"Of a start of std {STDS[1]:g}, the share of the gates' variance that is left: {lasting} updates.",
        f"Told from std 0 at the same learning rate, by {responses.score}: {', '.join(words) or 'none of the starts'}.",
        f"Lowest mean {responses.score}: {best} ({fmean(responses.fid[best]):.1f}).",
    ]


def _shares(left: Mapping[int, float | None]) -> str:
    return ", ".join(f"{_percent(100 * share)} % after {k}" for k, share in left.items() if share is not None)


def _percent(value: float) -> str:
    return f"{value:.0f}" if value >= 1 else f"{value:.1g}"


def grid_table(
    responses: Responses, changes: Mapping[str, Difference], left: Left, rates: Mapping[float, float]
) -> Table:
    """A row per learning rate and std."""
    columns = [
        Column("lr", format="g"),
        Column("std", format="g"),
        Column(responses.score, "lower is better", ".1f"),
        Column("change", "against std 0 at this lr", "+.1f"),
        Column("verdict"),
        *(Column(f"left after {k}", "% of variance", ".3g") for k in UPDATES),
    ]
    rows: list[list[Cell]] = []
    for factor, std in product(LR_FACTORS, STDS):
        name = row(factor, std)
        change = changes.get(name)
        shares = [None if share is None else 100 * share for share in left[name].values()] if std else [None] * 3
        score = Measurement.of(t_interval(responses.fid[name]))
        rows.append([rates[factor], std, score, *change_cells(change), *shares])
    notes = [
        f"Mean over {responses.num_seeds} seeds with 95 % t intervals; changes paired, intervals and verdicts hold for"
        f" all {len(changes)} together (Bonferroni). Left: variance of all gate weights at the start over that"
        " after so many updates; the first update moves no gate, since the last layer is zero until then."
    ]
    return Table(TITLE, columns, rows, notes)


def score_map(responses: Responses, rates: Mapping[float, float]) -> Matrix:
    """Score over the grid."""
    means = [[fmean(responses.fid[row(factor, std)]) for std in STDS] for factor in LR_FACTORS]
    caption = f"Mean {responses.score} of n = {responses.num_seeds} seeds; faint is better."
    names = [f"lr {lr:g}" for lr in rates.values()]
    return Matrix(f"{responses.score} over the grid", caption, names, [f"std {s:g}" for s in STDS], means, format=".1f")


def left_map(left: Left, rates: Mapping[float, float]) -> Matrix:
    """How much of the start is left after the first updates."""
    values = [[None if (s := left[row(*cell)][k]) is None else 100 * s for k in UPDATES] for cell in STARTS]
    caption = "Share of the variance of all gate weights that is the start's, in %, mean over seeds; strong: all of it."
    names = [f"lr {rates[factor]:g}, std {std:g}" for factor, std in STARTS]
    columns = [f"{k} update{'s' * (k > 1)}" for k in UPDATES]
    texts = [["–" if v is None else _percent(v) for v in line] for line in values]
    return Matrix("What is left of the start", caption, names, columns, values, texts)


_SETTINGS = [Setting(row(lr, std), gaussian_scheme(std), lr_factor=lr) for lr, std in product(LR_FACTORS, STDS)]
LR_STD = Study("lr-std", TITLE, tuple(_SETTINGS), reduce)
