"""Standard deviations from 0 to 5e-2 for all roles: the score they lead to, and how open the branches start."""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from torch import Tensor

from adaln.analysis.live import BranchEnergy, branch_energies
from adaln.report import Axis, Block, Cell, Column, Lines, Section, Series, Table
from adaln.runs import Run
from adaln.statistics import t_interval
from adaln.studies.compare import comparison_result
from adaln.studies.published_numbers import gaussian_scheme
from adaln.studies.rows import Comparison, Responses, compare
from adaln.studies.study import Outcome, Result, Setting, Study
from adaln.training import inputs
from adaln.views.snapshots import spread_evenly

STDS = (0.0, 1e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 5e-2)
"""Most are Table 2's: those runs are shared."""
NUM_IMAGES = 16
"""Of the first batch, on which energies are measured."""
MOST_BLOCKS = 3
"""Drawn, from first to last; the table has the mean over all."""
TITLE = "From std 0 to 5e-2: score, and the residual energy at step 0"
Energies = Mapping[str, Mapping[str, float]]
"""Row -> branch ("blocks.0 attn") -> mean over seeds of |gate * F| / |x|."""


def row(std: float) -> str:
    """The label of a standard deviation, as in Table 2."""
    return f"std {std:g}"


def reduce(outcomes: Sequence[Outcome]) -> Result:
    """The comparison with the zero start, led by scores and energies against std."""
    comparison = compare(outcomes, row(0.0))
    responses = comparison.responses
    energies = {label: mean_energies(runs) for label, runs in responses.by_label.items()}
    blocks: list[Block] = [
        energy_table(responses, energies),
        score_figure(responses),
        energy_figure(responses, energies),
    ]
    lines, data = verdict(comparison, energies), {"residual_energy_at_step_0": energies}
    return comparison_result(TITLE, comparison).led_by(lines, [Section("Against std", blocks)], data)


def mean_energies(runs: Sequence[Outcome]) -> dict[str, float]:
    """The energy of every branch of the fresh networks, mean over their seeds."""
    seeds = [energies_at_start(one.run) for one in runs]
    return {
        f"{first.block} {first.branch}": fmean(math.nan if e.ratio is None else e.ratio for e in (first, *others))
        for first, *others in zip(*seeds, strict=True)
    }


def energies_at_start(run: Run) -> tuple[BranchEnergy, ...]:
    """How much every branch of a run's fresh network adds to the stream, on the first images that it learns from."""
    model = run.new_model()
    seen: dict[str, Any] = {}

    def first_inputs(x: Tensor, t: Tensor, y: Tensor | None) -> Tensor:
        seen.update(x=x, t=t, y=y)
        output: Tensor = model(x, t, y)
        return output

    batch = inputs(run, run.batches(), 0)
    x, y, t, noise = (None if part is None else part[:NUM_IMAGES] for part in batch)
    run.process.loss(first_inputs, x, y, t, noise)  # type: ignore[arg-type]
    return branch_energies(model, seen)


def verdict(comparison: Comparison, energies: Energies) -> list[str]:
    """The best std, whether it is told from zero, and how open the network starts there and at both ends."""
    responses = comparison.responses
    means = {label: fmean(values) for label, values in responses.fid.items()}
    best = min(means, key=means.__getitem__)
    change = comparison.changes.get(best)
    clear = "the reference itself" if change is None else "told from 0" if change.distinguishable else "not told from 0"
    opened = "; ".join(
        f"{label} {fmean(energies[label].values()):.1e}"
        for label in dict.fromkeys((row(1e-3), best, row(STDS[-1])))
        if label != row(0.0)
    )
    return [
        f"Lowest mean {responses.score}: {best} ({means[best]:.1f}; {clear}).",
        f"What a branch adds at step 0, |gate F| / |x|, mean over branches: {opened}; exactly 0 at std 0.",
    ]


def energy_table(responses: Responses, energies: Energies) -> Table:
    """Score and energies side by side."""
    columns = [
        Column("start"),
        Column(responses.score, "mean", ".1f"),
        *(Column(name, "|gate F| / |x|, step 0", ".2e") for name in ("least branch", "mean branch", "greatest branch")),
    ]
    rows: list[list[Cell]] = []
    for label, values in responses.fid.items():
        ratios = list(energies[label].values())
        rows.append([label, fmean(values), min(ratios), fmean(ratios), max(ratios)])
    notes = [
        f"Energies: Euclidean norms over {NUM_IMAGES} images of the first batch, network as the scheme starts it, mean"
        f" over {responses.num_seeds} seeds."
    ]
    return Table("Score and residual energy", columns, rows, notes)


def score_figure(responses: Responses) -> Lines:
    """Score against std."""
    caption = (
        f"Mean of n = {responses.num_seeds} seeds with 95 % t intervals, all roles from N(0, std²); the leftmost point"
        " is std 0."
    )
    series = Series.of(responses.score, STDS, [t_interval(responses.fid[row(std)]) for std in STDS])
    axes = Axis("std", "", "symlog", STDS[1]), Axis(responses.score, "lower is better")
    return Lines(f"{responses.score} against std", caption, *axes, [series])


def energy_figure(responses: Responses, energies: Energies) -> Lines:
    """Residual energy at step 0 against std, first to last block."""
    stds = [std for std in STDS if std]
    names = list(energies[row(stds[0])])
    every = list(dict.fromkeys(name.rpartition(" ")[0] for name in names))
    blocks = [every[i] for i in spread_evenly(range(len(every)), MOST_BLOCKS)]
    shown = [name for name in names if name.rpartition(" ")[0] in blocks]
    series = [Series(name, stds, [energies[row(std)][name] for std in stds]) for name in shown]
    caption = f"Mean of n = {responses.num_seeds} fresh networks; blocks {', '.join(blocks)}. At std 0 it is exactly 0."
    axes = Axis("std", "", "log"), Axis("|gate F| / |x| at step 0", "", "log")
    return Lines("Residual energy at step 0 against std", caption, *axes, series)


STD_SWEEP = Study("std-sweep", TITLE, tuple(Setting(row(std), gaussian_scheme(std)) for std in STDS), reduce)
