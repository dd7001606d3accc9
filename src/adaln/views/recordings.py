"""What runs recorded of gate, scale and shift while they trained: histograms step by step, std and gradient norm."""

from collections.abc import Callable, Mapping, Sequence

from adaln.analysis import RoleRecord
from adaln.report import Axis, Block, Histograms, Lines, Panel, Ridge, Series
from adaln.runs import Run
from adaln.views.snapshots import spread_evenly

LETTERS = {"gate": "α", "scale": "γ", "shift": "β"}
MOST_RIDGES = 10


def recorded_blocks(run: Run, recording: Sequence[RoleRecord]) -> list[Block]:
    """What one run recorded: histograms at some of the steps, std and gradient norm at all of them."""
    steps = sorted({record.step for record in recording})
    shown = spread_evenly(steps, MOST_RIDGES)
    figures = role_histograms({run.config.scheme.name: recording}, shown, run.config.seed)
    std = _over_steps("Std of each role", recording, lambda record: record.moments.std)
    gradient = _over_steps("Gradient norm of each role", recording, lambda record: record.gradient_norm)
    return [*figures, std, gradient]


def role_histograms(
    recordings: Mapping[str, Sequence[RoleRecord]], shown_steps: Sequence[int], seed: int
) -> list[Histograms]:
    """For each role one figure: a panel per recording, a ridge per shown step."""
    return [_role_figure(role, letter, recordings, shown_steps, seed) for role, letter in LETTERS.items()]


def _role_figure(
    role: str, letter: str, recordings: Mapping[str, Sequence[RoleRecord]], shown_steps: Sequence[int], seed: int
) -> Histograms:
    panels, count = [], 0
    for name, recording in recordings.items():
        records = {r.step: r for r in recording if r.group.name == role and r.group.depth is None}
        shown = [records[step] for step in shown_steps if step in records]
        count = shown[0].moments.elements
        panels.append(Panel(name, [_ridge(record) for record in shown]))
    caption = (
        f"All {count:,} weights of W_{letter} over all blocks, seed {seed}, at recorded steps (top: the start). A spike"
        " is a value that all weights share."
    )
    return Histograms(
        f"{role.capitalize()} weights W_{letter} over training", caption, Axis("weight", "", "symlog"), panels
    )


def _ridge(record: RoleRecord) -> Ridge:
    std = record.moments.std or 0.0
    note = f"std {std:.1e}" if std else "all equal"
    return Ridge(f"step {record.step}", record.histogram.edges, record.histogram.counts, note)


def _over_steps(title: str, recording: Sequence[RoleRecord], read: Callable[[RoleRecord], float | None]) -> Lines:
    names = dict.fromkeys(record.group.name for record in recording)
    series = []
    for name in names:
        records = [record for record in recording if record.group.name == name and record.group.block is None]
        series.append(Series(name, [record.step for record in records], [read(record) or None for record in records]))
    caption = (
        f"All blocks together, recorded while training at n = {len(series[0].x)} steps; gaps where it is exactly 0."
    )
    return Lines(
        title, caption, Axis("step", "updates", "symlog", 1), Axis(title.split(" of ")[0].lower(), "", "log"), series
    )
