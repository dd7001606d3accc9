"""What a trained run does with its conditioning: gates, residual stream and conditions by depth and time, values
shuffled, the way to another run."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import nn

from adaln.analysis import distances, gate_sizes, gauges, interpolate, permute_role
from adaln.analysis.gauges import ConditionGauge, condition_modules, pruned_conditions
from adaln.conditioning import Role, find_layout
from adaln.processes import GaussianDiffusion
from adaln.report import Axis, Cell, Column, Lines, Matrix, Measurement, Section, Series, Table
from adaln.rng import generator
from adaln.runs import Run
from adaln.statistics import paired_differences, t_interval
from adaln.training import batch_loss
from adaln.views.distributions import distance_table
from adaln.views.snapshots import Snapshot

FRACTIONS = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
"""Of the way from one end of the process to the other."""
POINTS = 11
"""On the line between two runs, both ends included."""
SHUFFLES = 3
PRUNED = (0.25, 0.5, 0.75, 0.9, 0.99)
"""Shares of the entries of condition vectors."""
AS_TRAINED = "as trained"
NUM_INPUTS = 16
"""Inputs of pure noise, of as many classes where there are so many."""
STREAM = {
    "norm": ("norm of a token", "Euclidean norm of a token, mean over tokens"),
    "cosine": (
        "cosine with the block before",
        "cosine between a token and what it was before the block, mean over tokens; 1: the block turns nothing",
    ),
    "mean_share": (
        "share of the mean token",
        "squared norm of an image's mean token over the mean squared norm of its tokens; 1: all tokens are alike",
    ),
    "largest": (
        "the largest channel",
        "root mean square of the largest channel over that of the median channel, and which channel that is",
    ),
}
"""Gauges of the residual stream, their titles, and what they are."""


@dataclass(frozen=True, slots=True)
class Probe:
    """The averaged network of a run at a step, and how many batches of its own data its loss is taken on."""

    run: Run
    model: nn.Module
    step: int
    num_batches: int = 8

    @classmethod
    def of(cls, run: Run, step: int | None = None, num_batches: int = 8) -> "Probe":
        """The newest checkpoint by default; `ValueError` where there is none, or with fewer than two batches."""
        if num_batches < 2:
            raise ValueError(f"num_batches is {num_batches}; expected at least 2, for an interval")
        return cls(run, *run.averaged_model(step), num_batches)

    @torch.no_grad()
    def losses(self, model: nn.Module) -> list[float]:
        """The training loss of `model` on batches, times and noise that come after the run's last step.

        The same for every model that is asked for, so that losses are paired.
        """
        batches, first = self.run.batches(), self.run.config.steps
        return [float(batch_loss(self.run, model, batches, first + i).mean()) for i in range(self.num_batches)]


def explain_section(probe: Probe, other: Probe | None = None) -> Section:
    """Gates, gauges, conditions pruned, the same values elsewhere, and with `other` the line to it and the distance."""
    blocks = [
        *gate_figure(probe),
        *gauge_blocks(probe),
        *pruned(probe),
        *elsewhere(probe),
        *(way_to(probe, other) if other else []),
    ]
    return Section("What the conditioning does", blocks)


def _inputs(run: Run) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Noise, and labels that take turns."""
    spec = run.spec
    noise = torch.randn(NUM_INPUTS, spec.channels, spec.height, spec.width, generator=generator("explain", "gates"))
    y = torch.arange(NUM_INPUTS).remainder(spec.num_classes) if spec.num_classes else None
    return noise.to(run.device), None if y is None else y.to(run.device)


def gate_figure(probe: Probe) -> list[str | Matrix]:
    """Root mean square of every gate, by depth and time, over 16 inputs of pure noise and as many classes."""
    times, (noise, y) = _times(probe.run), _inputs(probe.run)
    found = gate_sizes(probe.model, noise, times, y)
    if not found:
        return ["This network has no gates."]
    rows = list(dict.fromkeys((size.depth, f"{size.block} {size.branch}") for size in found))
    rms = {(size.depth, f"{size.block} {size.branch}", size.t): size.rms for size in found}
    columns = [float(t) for t in torch.as_tensor(times)]
    caption = (
        f"Root mean square over channels and n = {NUM_INPUTS} inputs of the gate α that the averaged network computes"
        f" at step {probe.step:,}; 1 is a plain residual connection, 0 a closed one."
    )
    values = [[rms[(*row, t)] for t in columns] for row in rows]
    names = [f"t = {t:g}" for t in times]
    return [Matrix("Gate size by depth and time", caption, [name for _, name in rows], names, values, format=".2g")]


def gauge_blocks(probe: Probe) -> list[Matrix | Table]:
    """Gauges of the residual stream by depth and time, and of the condition vectors of different classes by time."""
    times, (noise, y) = _times(probe.run), _inputs(probe.run)
    num = min(NUM_INPUTS, probe.run.spec.num_classes or NUM_INPUTS)  # no class twice
    streams, conditions = gauges(probe.model, noise[:num], times, None if y is None else y[:num])
    names, columns = list(dict.fromkeys(one.block for one in streams)), [f"t = {t:g}" for t in times]
    blocks: list[Matrix | Table] = []
    for gauge, (title, what) in STREAM.items() if streams else ():
        rows = [[one for one in streams if one.block == name] for name in names]
        values = [[getattr(one, gauge) for one in row] for row in rows]
        texts = [[f"{one.largest:.3g} #{one.channel}" for one in row] for row in rows] if gauge == "largest" else None
        caption = f"Of the residual stream as it leaves a block, over n = {num} inputs of noise: {what}."
        blocks.append(Matrix(f"Residual stream: {title}", caption, names, columns, values, texts))
    if conditions:
        blocks.append(_condition_table(conditions, num))
    return blocks


def _condition_table(conditions: Sequence[ConditionGauge], num_classes: int) -> Table:
    """How alike the condition vectors of different classes are, by time."""
    columns = [
        Column("time", format="g"),
        Column("cosine", "mean over pairs", ".4f"),
        Column("least cosine", format=".4f"),
        Column("entries in use", "participation ratio", ".1f"),
        Column("directions in use", "participation ratio", ".1f"),
    ]
    rows: list[list[Cell]] = [[c.t, c.cosine, c.least_cosine, c.participation, c.directions] for c in conditions]
    notes = [
        f"Vectors of {conditions[0].width} entries as they enter the first modulation layer, of the first"
        f" n = {num_classes} classes. Entries: (Σ v²)² / Σ v⁴ of a vector v, mean over classes. Directions: (Σ λ)² /"
        f" Σ λ² of the eigenvalues λ of their covariance, at most {num_classes - 1}. Of DiTs trained on ImageNet-1K a"
        " cosine above 0.99 is reported (arXiv 2602.21596)."
    ]
    return Table("Condition vectors of different classes", columns, rows, notes)


def _times(run: Run) -> list[float] | list[int]:
    """Times from clean to noise in the process's own units."""
    if isinstance(run.process, GaussianDiffusion):
        return [round(fraction * (run.process.num_steps - 1)) for fraction in FRACTIONS]
    return [1 - fraction for fraction in FRACTIONS]


def pruned(probe: Probe) -> list[Table]:
    """Loss with the smallest entries of every condition vector left out; none where nothing is modulated."""
    if not condition_modules(probe.model, find_layout(probe.model)):
        return []
    rows = {AS_TRAINED: probe.losses(probe.model)}
    for share in PRUNED:
        with pruned_conditions(probe.model, share):
            rows[f"{100 * share:g} % left out"] = probe.losses(probe.model)
    note = "Of each condition vector the entries of least magnitude are zero where it enters a modulation layer."
    return [_loss_table("What the conditions' small entries are worth", "entries", rows, [note, _of_batches(probe)])]


def elsewhere(probe: Probe) -> list[str | Table]:
    """Loss with the values of a role shuffled within each site: the same histograms, another point."""
    rows = {AS_TRAINED: probe.losses(probe.model)}
    for role in Role:
        shuffled = [probe.losses(_shuffled(probe.model, role, seed)) for seed in range(SHUFFLES)]
        rows[f"{role.name.lower()} shuffled"] = [fmean(batch) for batch in zip(*shuffled, strict=True)]
    note = (
        f"{_of_batches(probe)} {SHUFFLES} shuffles each. Every histogram, moment and entropy is the"
        " trained network's: none of them tells these points apart."
    )
    return [_loss_table("The same histogram is not the same point", "values", rows, [note])]


def _of_batches(probe: Probe) -> str:
    return (
        f"Averaged weights at step {probe.step:,}; {probe.num_batches} batches of {probe.run.config.batch_size} of the"
        " run's own data, the same for all rows."
    )


def _loss_table(title: str, what: str, rows: Mapping[str, Sequence[float]], notes: Sequence[str]) -> Table:
    """Losses on the same batches, against those as trained."""
    changes = paired_differences(rows, AS_TRAINED)
    columns = [
        Column(what),
        Column("loss", "95 %", ".4f"),
        Column("change", "95 %, paired, all together", "+.4f"),
        Column("relative", "%", "+.1f"),
    ]
    cells: list[list[Cell]] = []
    for name, losses in rows.items():
        change = changes.get(name)
        changed = [Measurement.of(change.absolute), Measurement.of(change.relative, 100)] if change else [None, None]
        cells.append([name, Measurement.of(t_interval(losses)), *changed])
    return Table(title, columns, cells, notes)


def _shuffled(model: nn.Module, role: Role, seed: int) -> nn.Module:
    moved = copy.deepcopy(model)
    permute_role(moved, role, seed)
    return moved


def way_to(a: Probe, b: Probe) -> list[str | Lines | Table]:
    """Loss along the straight line between two networks, and how far apart they are; `ValueError` for two shapes."""
    ends = a.model.state_dict(), b.model.state_dict()
    weights = [i / (POINTS - 1) for i in range(POINTS)]
    between, losses = copy.deepcopy(a.model), []
    for weight in weights:
        between.load_state_dict(interpolate(*ends, weight))
        losses.append(t_interval(a.losses(between)))
    means = [loss.value for loss in losses]
    straight = [(1 - w) * means[0] + w * means[-1] for w in weights]
    barrier = max(mean - line for mean, line in zip(means, straight, strict=True))
    names = [f"{probe.run.path.name} @ {probe.step:,}" for probe in (a, b)]
    caption = (
        f"(1 − w) of {names[0]} plus w of {names[1]}, all weights, averaged; n = {a.num_batches} batches of the first"
        " run's data, the band is 95 %. Dashes: the straight line between the ends."
    )
    series = [Series.of("loss", weights, losses), Series("between the ends", weights, straight)]
    figure = Lines("Loss on the line between two runs", caption, Axis("w"), Axis("loss"), series)
    line = (
        f"From {names[0]} to {names[1]} the loss rises by up to {barrier:.4f} above the line between the ends"
        f" ({100 * barrier / means[0]:.1f} % of the first loss)."
    )
    snapshots = [Snapshot(p.run.path.name, p.step, {}, tensors) for p, tensors in zip((a, b), ends, strict=True)]
    apart = distance_table([(snapshots[0], snapshots[1], distances(*ends))], "role")
    return [line, figure, apart]
