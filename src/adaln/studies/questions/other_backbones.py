"""Are the trained distributions of gate, scale and shift adaLN-Zero's, or one network's? Other backbones as control."""

from collections.abc import Callable, Mapping, Sequence
from itertools import product

from adaln.analysis import Summary
from adaln.analysis.fit import ROLES
from adaln.report import Block, Cell, Column, Measurement, Section, Table
from adaln.statistics import Difference, paired_each, t_interval
from adaln.studies.rows import change_cells, paired, plain_difference, study_result
from adaln.studies.study import Outcome, Result, Setting, Study
from adaln.views.figures import over_steps
from adaln.views.snapshots import Snapshot, snapshot

BACKBONES: Mapping[str, str] = {"DiT": "DiT-XL/2", "SiT": "SiT-XL/2", "DiT-LLaMA": "DiT-LLaMA-XL/2", "U-DiT": "U-DiT-L"}
CONTROL = "DiT"
TITLE = "Trained distributions of other backbones under adaLN-Zero"
MEASURES: Mapping[str, Callable[[Summary], float | None]] = {
    "std": lambda summary: summary.moments.std,
    "excess kurtosis": lambda summary: summary.moments.excess_kurtosis,
    "KL from Gaussian": lambda summary: summary.gaussian.kl_nats if summary.gaussian else None,
}
"""What is read of a distribution; None for one value that all weights share."""
Shape = tuple[str, str]
"""Backbone, role."""
Measured = Mapping[Shape, Mapping[str, list[float] | None]]
"""Measure -> its value for each seed; None where a seed has none."""


def reduce(outcomes: Sequence[Outcome]) -> Result:
    """Spread and shape of every role on every backbone, the shapes held against DiT's."""
    by_label = paired(outcomes, CONTROL)
    snapshots = {
        label: [snapshot(label, one.job.config.steps, one.weights()) for one in runs]
        for label, runs in by_label.items()
    }
    by_shape = {(label, role): measured(snapshots[label], role) for label, role in product(BACKBONES, ROLES)}
    changes = kurtosis_changes(by_shape)
    table = shape_table(by_shape, changes, len(snapshots[CONTROL]))
    first = [seeds[0] for seeds in snapshots.values()]
    blocks: list[Block] = [table, over_steps("Trained weights of every backbone", first, {r: r for r in ROLES})]
    rows = [
        {"backbone": shape[0], "role": shape[1], **measures,
         "kurtosis_change": plain_difference(changes[shape]) if shape in changes else None}
        for shape, measures in by_shape.items()
    ]  # fmt: skip
    return study_result(TITLE, verdict(by_shape, changes), table, [Section("Result", blocks)], by_label, {"rows": rows})


def measured(seeds: Sequence[Snapshot], role: str) -> dict[str, list[float] | None]:
    """All measures of a role over all blocks."""
    summaries = [view.summary for seed in seeds if (view := seed.view(role)) and view.summary]
    measures: dict[str, list[float] | None] = {}
    for name, measure in MEASURES.items():
        values = [value for summary in summaries if (value := measure(summary)) is not None]
        measures[name] = values if len(values) == len(seeds) else None
    return measures


def kurtosis_changes(by_shape: Measured) -> dict[Shape, Difference]:
    """Excess kurtosis of a role on a backbone minus that on DiT: shape, whatever the spread. One family."""
    pairs = {}
    for (label, role), measures in by_shape.items():
        ours, theirs = measures["excess kurtosis"], by_shape[CONTROL, role]["excess kurtosis"]
        if label != CONTROL and ours and theirs:
            pairs[label, role] = ours, theirs
    return paired_each(pairs)


def verdict(by_shape: Measured, changes: Mapping[Shape, Difference]) -> list[str]:
    """For every role its excess kurtosis on every backbone, and where it is told from DiT's."""
    lines = []
    for role in ROLES:
        means = [
            f"{label} {t_interval(values).value:+.1f}"
            for label in BACKBONES
            if (values := by_shape[label, role]["excess kurtosis"])
        ]
        clear = [label for (label, r), change in changes.items() if r == role and change.distinguishable]
        against = f"told from {CONTROL}'s: {', '.join(clear)}" if clear else f"none is told from {CONTROL}'s"
        lines.append(
            f"Excess kurtosis of the {role} weights (a Gaussian has 0): {', '.join(means)}; {against}."
            if means
            else f"The {role} weights have not moved on any backbone."
        )
    return lines


def shape_table(by_shape: Measured, changes: Mapping[Shape, Difference], num_seeds: int) -> Table:
    """A row per backbone and role."""
    columns = [
        Column("backbone"),
        Column("role"),
        Column("std", format=".2e"),
        Column("excess kurtosis", format="+.2f"),
        Column("KL from Gaussian", "nats", ".3f"),
        Column("change", f"kurtosis, against {CONTROL}", "+.2f"),
        Column("verdict"),
    ]
    rows: list[list[Cell]] = []
    for (label, role), measures in by_shape.items():
        change = changes.get((label, role))
        cells = [Measurement.of(t_interval(values)) if values else None for values in measures.values()]
        word = "differs" if change and change.distinguishable else "not distinguishable" if change else None
        rows.append([label, role, *cells, change_cells(change)[0], word])
    notes = [
        f"All weights of a role over all blocks at the end of training, over {num_seeds} seeds, 95 % t intervals."
        f" Kurtosis is held against {CONTROL}'s of the same seed; intervals and verdicts hold for all {len(changes)}"
        " together (Bonferroni). Spreads go with width and learning rate and are not held against each other."
    ]
    return Table(TITLE, columns, rows, notes)


OTHER_BACKBONES = Study(
    name="other-backbones",
    title=TITLE,
    settings=tuple(Setting(label, "adaln-zero", model=model, is_scored=False) for label, model in BACKBONES.items()),
    reduce=reduce,
)
