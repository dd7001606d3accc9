"""Figures of distributions, from any snapshots: over steps, over blocks, over branches, and what a run recorded.

Each form takes a title, snapshots of one model or of several, and what it is of; it raises `ValueError` where none
holds that. `PAPER_FIGURES` has the paper's figures as rows: 4 to 8, 11 to 22.

Source: "Unveiling the Secret of adaLN-Zero in Diffusion Transformer", sections 3.3, 3.4 and A.4 to A.11.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import ceil

from adaln.analysis import Entropy, RoleRecord
from adaln.analysis.fit import PAPER_DEGREES, ROLES, fit
from adaln.conditioning import SCHEMES
from adaln.conditioning.blockwise import PUBLISHED_BLOCKS
from adaln.registry import Registry
from adaln.report import Axis, Histograms, Lines, Panel, Ridge, Series
from adaln.views.snapshots import Snapshot, View

Snapshots = Sequence[Snapshot]
Names = Mapping[str, str]
"""What a figure is of: panel title -> role or module."""
Form = Callable[[str, Snapshots, Names], Histograms | Lines]
LETTERS = {"gate": "α", "scale": "γ", "shift": "β"}
EMBEDDERS = {"label": "label embedder", "timestep": "timestep embedder"}
ZERO_CONVOLUTION = "ControlNet zero convolution"
SYMLOG = Axis("weight", "", "symlog")


def over_steps(title: str, snapshots: Snapshots, names: Names, *, apart: bool = False) -> Histograms:
    """A panel for each quantity and source, a ridge for each step; sources of one step each share one, unless apart."""
    panels, views = [], []
    for word, name in names.items():
        held = [(s, view) for s in snapshots if (view := s.view(name))]
        views += [view for _, view in held]
        if not apart and len({s.source for s, _ in held}) == len(held):
            panels += [Panel(word or name, [_ridge(s.label, view) for s, view in held])] if held else []
            continue
        for source in _sources(s for s, _ in held):
            ridges = [_ridge("" if s.step is None else _step(s), view) for s, view in held if s.source == source]
            panels.append(Panel(f"{word}, {source}".strip(", "), ridges))
    if not views:
        raise _nothing(" or ".join(names.values()), snapshots)
    a_row_each = len(names) > 1 and len(panels) > len(names)
    columns = len(panels) // len(names) if a_row_each else len(panels)
    return Histograms(title, _caption(views), SYMLOG, panels, columns=ceil(columns / ceil(columns / 3)))


def over_last_steps(title: str, snapshots: Snapshots, names: Names) -> Histograms:
    """Several sources at their last step, in one panel for each quantity."""
    if len(_sources(snapshots)) < 2:
        raise ValueError(f"figure 21 compares starts; expected two sources or more, got {_sources(snapshots)}")
    return over_steps(title, last_of_each(snapshots), names)


def per_block(title: str, snapshots: Snapshots, names: Names) -> Histograms:
    """A panel for each block of one role in forward order, a ridge for each snapshot."""
    (role,) = names.values()
    blocks = list(dict.fromkeys(block for s in snapshots for block in s.by_block(role)))
    if not blocks:
        raise _nothing(f"{role} by block", snapshots)
    label = Snapshot.label.fget if len(_sources(snapshots)) > 1 else _step  # type: ignore[attr-defined]
    held = [(label(s), s.by_block(role)) for s in snapshots]
    panels = [Panel(block, [_ridge(text, found[block]) for text, found in held if block in found]) for block in blocks]
    caption = _caption([view for _, found in held for view in found.values()])
    return Histograms(title, caption, SYMLOG, panels, columns=4)


def entropy_over_steps(title: str, snapshots: Snapshots, names: Names) -> Lines:
    """Differential entropy of one role over training, in nats; gaps where the values are all alike."""
    (role,) = names.values()
    views = [(s, s.view(role)) for s in snapshots if s.step is not None]
    points = [(s, view.summary.entropy) for s, view in views if view and view.summary]
    if not points:
        raise _nothing(f"checkpoints with a {role}", snapshots)
    series = [
        Series(source, [s.step or 0 for s, _ in found], [e.nats for _, e in found])
        for source in _sources(snapshots)
        if (found := [(s, e) for s, e in points if s.source == source])
    ]
    return Lines(title, _entropy_caption([e for _, e in points]), Axis("step", "updates"), Axis("h", "nats"), series)


def peaks_over_blocks(title: str, snapshots: Snapshots, names: Names) -> Lines:
    """Histogram peak of each block over its mean, measured and smoothed, at the last step of each source.

    With the paper's own polynomials where there are 28 blocks. Source: A.11.
    """
    last = {s.source: s.tensors for s in snapshots if s.tensors is not None and len(s.by_block("gate")) > 1}
    if not last:
        raise _nothing("checkpoints with two blocks or more", snapshots)
    fits = {source: fit(tensors, "peak", by_block=True) for source, tensors in last.items()}
    series = []
    for source, role in ((source, role) for source, found in fits.items() for role in found.roles):
        letter, name = LETTERS[role], f"{LETTERS[role]} {source}" if len(fits) > 1 else LETTERS[role]
        series.append(_peaks(f"{name} measured", letter, [one.std for one in fits[source].roles[role].measured]))
        series.append(_peaks(f"{name} smoothed", letter, fits[source].roles[role].stds))
    if any(fit.num_blocks == PUBLISHED_BLOCKS for fit in fits.values()):
        starts = {role: getattr(SCHEMES["adaln-gaussian-blockwise"], role) for role in ROLES}
        series += [_peaks(f"{LETTERS[r]} paper", LETTERS[r], [one.weight.std for one in starts[r]]) for r in ROLES]
    caption = (
        "Peak height of each block's histogram, 1 / std of the Gaussian with the same peak, over the mean of all"
        f" blocks, n = {max(fit.num_blocks for fit in fits.values())} blocks; smoothed: a polynomial of at"
        f" most degree {PAPER_DEGREES['gate']} (α) or {PAPER_DEGREES['shift']} (γ, β), one degree per four blocks."
    )
    return Lines(title, caption, Axis("block"), Axis("peak / mean peak"), series, apart=True)


def per_branch(role: str, snapshots: Snapshots) -> Histograms:
    """A panel for each branch, a ridge for each block, at the last step of each source."""
    panels, views = [], []
    for s in last_of_each(snapshots):
        found = sorted(
            ((g, v) for g, v in s.views.items() if g.name == role and g.branch), key=lambda p: p[0].depth or 0
        )
        views += [view for _, view in found]
        for branch in dict.fromkeys(group.branch for group, _ in found):
            ridges = [_ridge(str(group.block), view) for group, view in found if group.branch == branch]
            panels.append(Panel(f"{branch}, {s.label}", ridges))
    if not views:
        raise _nothing(f"{role} by branch", snapshots)
    return Histograms(f"{_weights_of(role)} by branch", _caption(views), SYMLOG, panels, columns=2)


def last_of_each(snapshots: Snapshots) -> list[Snapshot]:
    """The last snapshot of each source."""
    return list({s.source: s for s in snapshots}.values())


def role_histograms(
    recordings: Mapping[str, Sequence[RoleRecord]], shown_steps: Sequence[int], seed: int | None = None
) -> list[Histograms]:
    """For each role that there is, one figure of what trainings recorded: a panel for each, a ridge per shown step."""
    figures = []
    for role in ROLES:
        panels, count = [], ""
        for name, recording in recordings.items():
            records = {r.step: r for r in recording if r.group.name == role and r.group.depth is None}
            shown = [records[step] for step in shown_steps if step in records]
            if shown:
                count = number_of_weights(shown[0])
                panels.append(Panel(name, [_ridge(f"step {record.step}", record) for record in shown]))
        if not panels:
            continue
        of_seed = "" if seed is None else f", seed {seed}"
        caption = (
            f"{count} weights of W_{LETTERS[role]} over all blocks{of_seed}, at recorded steps (top: the first). A"
            " spike is a value that all weights share."
        )
        figures.append(Histograms(f"{_weights_of(role)} over training", caption, SYMLOG, panels))
    return figures


def number_of_weights(record: RoleRecord) -> str:
    """That a record is of, and of how many, where it is of some."""
    of_all = "" if record.entries is None else f" of {record.entries:,}"
    return f"{record.moments.elements:,}{of_all}"


@dataclass(frozen=True, slots=True)
class PaperFigure:
    """A figure of the paper: a form, and the values that it is of."""

    shows: str
    """One line for a catalogue."""
    title: str
    of: Names
    form: Form = over_steps
    by_block: bool = False

    def draw(self, snapshots: Snapshots) -> Histograms | Lines:
        """The figure; `ValueError` where no snapshot holds what it is of."""
        return self.form(self.title, snapshots, self.of)


def entropy_figure(role: str) -> PaperFigure:
    """The entropy of a role's weights over training; the gate's is the paper's figure 5."""
    letter = LETTERS[role]
    title = f"Differential entropy of the {role} weights W_{letter}"
    return PaperFigure(f"Entropy of the {role} weights W_{letter} over training", title, {"": role}, entropy_over_steps)


def _block_figure(role: str) -> PaperFigure:
    weights = _weights_of(role)
    return PaperFigure(f"{weights} block by block", f"{weights} by block", {"": role}, per_block, by_block=True)


def _role_figure(role: str) -> PaperFigure:
    weights = _weights_of(role)
    return PaperFigure(f"{weights} over all blocks, step by step", weights, {"": role})


def _weights_of(role: str) -> str:
    return f"{role.capitalize()} weights W_{LETTERS[role]}"


_FIGURES = {
    4: _role_figure("gate"),
    5: entropy_figure("gate"),
    6: _block_figure("gate"),
    7: _role_figure("scale"),
    8: PaperFigure(
        "Scale weights of the final layer, W_γf; two humps in the paper",
        "Final layer's scale weights W_γf",
        {"": "final scale"},
    ),
    11: _role_figure("shift"),
    12: _block_figure("scale"),
    13: _block_figure("shift"),
    14: PaperFigure("Shift weights of the final layer, W_βf", "Final layer's shift weights W_βf", {"": "final shift"}),
    15: PaperFigure("The last projection, W_f", "Last projection W_f", {"": "final head"}),
    16: PaperFigure("Attention's matrices over all blocks", "Attention weights", {"": "attention"}),
    17: PaperFigure("The two matrices of the MLP over all blocks", "MLP weights", {"fc1": "MLP fc1", "fc2": "MLP fc2"}),
    18: PaperFigure("The patch embedder", "Patch embedder", {"": "patch embedder"}),
    19: PaperFigure("The label and the timestep embedder", "Embedders", EMBEDDERS),
    20: PaperFigure(
        "ControlNet's zero convolutions, a panel for each kind of control",
        "ControlNet's zero convolutions",
        {"": ZERO_CONVOLUTION},
        partial(over_steps, apart=True),
    ),
    21: PaperFigure(
        "Gate weights W_α of several starts at their last step, in one panel",
        "Gate weights W_α of several starts",
        {"": "gate"},
        over_last_steps,
    ),
    22: PaperFigure(
        "Histogram peak of each block over its mean, measured and smoothed, at the last step of each source",
        "Peaks over blocks",
        {LETTERS[role]: role for role in ROLES},
        peaks_over_blocks,
        by_block=True,
    ),
}
PAPER_FIGURES: Registry[PaperFigure] = Registry(
    "figure of the paper", {f"figure{number}": figure for number, figure in _FIGURES.items()}
)
"""By name, "figure4" to "figure22"."""


def _sources(snapshots: Iterable[Snapshot]) -> list[str]:
    return list(dict.fromkeys(s.source for s in snapshots))


def _step(s: Snapshot) -> str:
    return s.source if s.step is None else f"step {s.step:,}"


def _ridge(label: str, view: View | RoleRecord) -> Ridge:
    note = f"std {view.moments.std:.1e}" if view.moments.std else "all equal"
    return Ridge(label, view.histogram.edges, view.histogram.counts, note)


def _caption(views: Sequence[View]) -> str:
    """What a reader must know of the ridges: of how many values, and what is not drawn."""
    sizes = sorted({view.histogram.elements for view in views})
    count = f"{sizes[0]:,}" if len(sizes) == 1 else f"{sizes[0]:,} to {sizes[-1]:,}"
    outside = max((v.histogram.below + v.histogram.above) / max(v.histogram.elements, 1) for v in views)
    strays = sum(view.moments.nans + view.moments.infs for view in views)
    parts = [f"n = {count} values a ridge, in bins of a tenth of their std, each ridge scaled to its own peak"]
    parts += [f"values beyond 5 std of their mean (at most {outside:.1%}) are not drawn"] * (outside > 0)
    parts += [f"{strays:,} values are not finite and not drawn"] * (strays > 0)
    return "; ".join(parts) + ". A spike is a value that all share."


def _entropy_caption(entropies: Sequence[Entropy]) -> str:
    """Estimator and bins, stated with the numbers."""
    how = sorted({f"{e.estimator}, bins {e.bins}" for e in entropies if e.nats is not None})
    error = max((e.standard_error for e in entropies if e.nats is not None), default=0.0)
    return (
        f"n = {len(entropies)} checkpoints; estimator: {'; '.join(how) or 'none, all values alike'}; standard error at"
        f" most {error:.1g} nats. A Gaussian of std s has 0.5 ln(2πe s²); values that are all alike have none (a gap)."
    )


def _nothing(what: str, snapshots: Snapshots) -> ValueError:
    return ValueError(f"no {what} in {', '.join(_sources(snapshots)) or 'nothing'}; expected a source that has it")


def _peaks(name: str, letter: str, stds: Sequence[float]) -> Series:
    """How high Gaussians of these stds are, over their mean height, block by block."""
    heights = [1 / std for std in stds]
    mean = sum(heights) / len(heights)
    return Series(name, list(range(len(stds))), [height / mean for height in heights], panel=letter)
