"""A start fitted from a pilot run, as a table and a figure."""

from pathlib import Path

from adaln.analysis.fit import Fit
from adaln.analysis.groups import checkpoint, weights_of
from adaln.report import Axis, Block, Column, Command, Lines, Measurement, Section, Series, Table
from adaln.runs import Run, is_run
from adaln.tensor_files import WeightSet
from adaln.views.figures import LETTERS
from adaln.views.snapshots import Snapshot


def pilot(path: Path, step: int | None = None, weights: WeightSet | None = None, prefix: str = "") -> Snapshot:
    """The weights that a start is measured on: a run's checkpoint, the newest by default, or a file; values unread.

    Raises `ValueError` naming the checkpoints that there are.
    """
    if is_run(path):
        saved, file = checkpoint(Run.open(path), step, weights or "model")
        return Snapshot(path.name, saved, {}, file)
    tensors, notes = weights_of(path, step, weights, prefix)
    return Snapshot(path.stem, None, {}, tensors, notes)


def fit_section(source: str, fit: Fit, scheme_file: Path) -> Section:
    """What was measured, what the scheme starts with, how to use it, and where there are blocks the curve over them."""
    use = Command(f"adaln train PRESET --scheme {scheme_file}")
    by_block = fit.num_blocks > 1
    blocks: list[Block] = [fit_table(source, fit), use, *([fit_figure(source, fit)] if by_block else [])]
    return Section("A start fitted from a pilot run", blocks)


def fit_table(source: str, fit: Fit) -> Table:
    """Measured std with its interval, and the std that the scheme uses."""
    rows = [
        [role, block if len(found.stds) > 1 else "all", Measurement(m.std, m.low, m.high), std]
        for role, found in fit.roles.items()
        for block, (m, std) in enumerate(zip(found.measured, found.stds, strict=True))
    ]
    columns = [
        Column("role"),
        Column("block"),
        Column("measured std", "95 %", ".3e"),
        Column("std of the start", format=".3e"),
    ]
    notes = [
        f"Method {fit.method}. The intervals are those of the estimate from this network's own weights, as independent"
        " draws; they say nothing about another seed's."
    ]
    return Table(f"Start fitted from {source}", columns, rows, notes)


def fit_figure(source: str, fit: Fit) -> Lines:
    """Std over blocks: measured with its band, and as the scheme uses it."""
    series = []
    for role, found in fit.roles.items():
        letter = LETTERS[role]
        blocks = list(range(len(found.stds)))
        low, high = ([getattr(m, end) for m in found.measured] for end in ("low", "high"))
        series.append(Series(f"{letter} measured", blocks, [m.std for m in found.measured], low, high))
        if list(found.stds) != [m.std for m in found.measured]:
            series.append(Series(f"{letter} start", blocks, list(found.stds)))
    caption = f"Std of each block's weights in {source} by {fit.method}, n = {len(blocks)} blocks; bands are 95 %."
    return Lines("Fitted std over blocks", caption, Axis("block"), Axis("std", "", "log"), series)
