"""The paper's figures of distributions, one function each, from any snapshots: 4 to 8, 11 to 22.

Every function takes snapshots of one model or of several and shows what they hold; it raises `ValueError` where none
holds what the figure is of. `PAPER_FIGURES` lists them by name.

Source: "Unveiling the Secret of adaLN-Zero in Diffusion Transformer", sections 3.3, 3.4 and A.4 to A.11.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from adaln.analysis import Entropy, fit_start
from adaln.analysis.fit import PAPER_DEGREES, ROLES, Fit
from adaln.conditioning import SCHEMES
from adaln.conditioning.schemes import PUBLISHED_BLOCKS
from adaln.registry import Registry
from adaln.report import Axis, Histograms, Lines, Panel, Ridge, Series
from adaln.views.recordings import LETTERS
from adaln.views.snapshots import Snapshot, View

Snapshots = Sequence[Snapshot]
Draw = Callable[[Snapshots], Histograms | Lines]
SYMLOG = Axis("weight", "", "symlog")


def figure_4(snapshots: Snapshots) -> Histograms:
    """Gate weights W_α over all blocks, step by step."""
    return over_steps("Gate weights W_α", snapshots, {"": "gate"})


def figure_5(snapshots: Snapshots, role: str = "gate") -> Lines:
    """Entropy of the gate weights W_α over training.

    In nats; gaps where the values are all alike. Of scale and shift as well, by `role`.
    """
    views = [(s, s.view(role)) for s in snapshots if s.step is not None]
    points = [(s, view.summary.entropy) for s, view in views if view and view.summary]
    if not points:
        raise _nothing(f"checkpoints with a {role}", snapshots)
    series = [
        Series(source, [s.step or 0 for s, _ in found], [e.nats for _, e in found])
        for source in _sources(snapshots)
        if (found := [(s, e) for s, e in points if s.source == source])
    ]
    title = f"Differential entropy of the {role} weights W_{LETTERS[role]}"
    return Lines(title, _entropy_caption([e for _, e in points]), Axis("step", "updates"), Axis("h", "nats"), series)


def figure_6(snapshots: Snapshots) -> Histograms:
    """Gate weights W_α block by block."""
    return per_block("gate", snapshots)


def figure_7(snapshots: Snapshots) -> Histograms:
    """Scale weights W_γ over all blocks, step by step."""
    return over_steps("Scale weights W_γ", snapshots, {"": "scale"})


def figure_8(snapshots: Snapshots) -> Histograms:
    """Scale weights of the final layer, W_γf; two humps in the paper."""
    return over_steps("Final layer's scale weights W_γf", snapshots, {"": "final scale"})


def figure_11(snapshots: Snapshots) -> Histograms:
    """Shift weights W_β over all blocks, step by step."""
    return over_steps("Shift weights W_β", snapshots, {"": "shift"})


def figure_12(snapshots: Snapshots) -> Histograms:
    """Scale weights W_γ block by block."""
    return per_block("scale", snapshots)


def figure_13(snapshots: Snapshots) -> Histograms:
    """Shift weights W_β block by block."""
    return per_block("shift", snapshots)


def figure_14(snapshots: Snapshots) -> Histograms:
    """Shift weights of the final layer, W_βf."""
    return over_steps("Final layer's shift weights W_βf", snapshots, {"": "final shift"})


def figure_15(snapshots: Snapshots) -> Histograms:
    """The last projection, W_f."""
    return over_steps("Last projection W_f", snapshots, {"": "final head"})


def figure_16(snapshots: Snapshots) -> Histograms:
    """Attention's matrices over all blocks."""
    return over_steps("Attention weights", snapshots, {"": "attention"})


def figure_17(snapshots: Snapshots) -> Histograms:
    """The two matrices of the MLP over all blocks."""
    return over_steps("MLP weights", snapshots, {"fc1": "MLP fc1", "fc2": "MLP fc2"})


def figure_18(snapshots: Snapshots) -> Histograms:
    """The patch embedder."""
    return over_steps("Patch embedder", snapshots, {"": "patch embedder"})


def figure_19(snapshots: Snapshots) -> Histograms:
    """The label and the timestep embedder."""
    return over_steps("Embedders", snapshots, {"label": "label embedder", "timestep": "timestep embedder"})


def figure_20(snapshots: Snapshots) -> Histograms:
    """ControlNet's zero convolutions, one source for each kind of control."""
    return over_steps("ControlNet's zero convolutions", snapshots, {"": "ControlNet zero convolution"})


def figure_21(snapshots: Snapshots) -> Histograms:
    """Gate weights W_α of several starts at their last step, in one panel."""
    if len(_sources(snapshots)) < 2:
        raise ValueError(f"figure 21 compares starts; expected two sources or more, got {_sources(snapshots)}")
    return over_steps("Gate weights W_α of several starts", last_of_each(snapshots), {"": "gate"})


def figure_22(snapshots: Snapshots) -> Lines:
    """Histogram peak of each block over its mean, measured and smoothed, at the last step of each source.

    With the paper's own polynomials where there are 28 blocks. Source: A.11.
    """
    last = {s.source: s.tensors for s in snapshots if s.tensors is not None and len(s.by_block("gate")) > 1}
    if not last:
        raise _nothing("checkpoints with two blocks or more", snapshots)
    fits = {source: fit_start(tensors, "peak", by_block=True) for source, tensors in last.items()}
    series = [line for source, fit in fits.items() for line in _peak_lines(source if len(fits) > 1 else "", fit)]
    if any(len(fit.roles["gate"].stds) == PUBLISHED_BLOCKS for fit in fits.values()):
        series += _published_peaks()
    caption = (
        "Peak height of each block's histogram, 1 / std of the Gaussian with the same peak, over the mean of all"
        f" blocks, n = {max(len(f.roles['gate'].stds) for f in fits.values())} blocks; smoothed: a polynomial of at"
        f" most degree {PAPER_DEGREES['gate']} (α) or {PAPER_DEGREES['shift']} (γ, β), one degree per four blocks."
    )
    return Lines("Peaks over blocks", caption, Axis("block"), Axis("peak / mean peak"), series)


def over_steps(title: str, snapshots: Snapshots, names: dict[str, str]) -> Histograms:
    """A panel for each quantity and source, a ridge for each step; sources of one step each share a panel.

    `names`: panel title -> role or module.
    """
    panels, views = [], []
    for word, name in names.items():
        held = [(s, view) for s in snapshots if (view := s.view(name))]
        views += [view for _, view in held]
        if len({s.source for s, _ in held}) == len(held):
            panels += [Panel(word or name, [_ridge(s.label, view) for s, view in held])] if held else []
            continue
        for source in _sources(s for s, _ in held):
            ridges = [_ridge(_step(s), view) for s, view in held if s.source == source]
            panels.append(Panel(f"{word}, {source}".strip(", "), ridges))
    if not views:
        raise _nothing(" or ".join(names.values()), snapshots)
    a_row_each = len(names) > 1 and len(panels) > len(names)
    columns = len(panels) // len(names) if a_row_each else len(panels)
    return Histograms(title, _caption(views), SYMLOG, panels, columns=min(3, columns))


def per_block(role: str, snapshots: Snapshots) -> Histograms:
    """A panel for each block in forward order, a ridge for each snapshot."""
    blocks = list(dict.fromkeys(block for s in snapshots for block in s.by_block(role)))
    if not blocks:
        raise _nothing(f"{role} by block", snapshots)
    label = Snapshot.label.fget if len(_sources(snapshots)) > 1 else _step  # type: ignore[attr-defined]
    held = {
        block: [(label(s), s.by_block(role)[block]) for s in snapshots if block in s.by_block(role)] for block in blocks
    }
    panels = [Panel(block, [_ridge(text, view) for text, view in found]) for block, found in held.items()]
    caption = _caption([view for found in held.values() for _, view in found])
    return Histograms(f"{role.capitalize()} weights W_{LETTERS[role]} by block", caption, SYMLOG, panels, columns=4)


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
    title = f"{role.capitalize()} weights W_{LETTERS[role]} by branch"
    return Histograms(title, _caption(views), SYMLOG, panels, columns=2)


def last_of_each(snapshots: Snapshots) -> list[Snapshot]:
    """The last snapshot of each source."""
    return list({s.source: s for s in snapshots}.values())


@dataclass(frozen=True, slots=True)
class PaperFigure:
    """A figure of the paper: what it shows, and the function that makes it from any snapshots."""

    draw: Draw
    by_block: bool = False

    @property
    def shows(self) -> str:
        """One line for a catalogue."""
        return (self.draw.__doc__ or "").split("\n")[0]


_FIGURES: tuple[Draw, ...] = (
    *(figure_4, figure_5, figure_6, figure_7, figure_8, figure_11, figure_12, figure_13, figure_14, figure_15),
    *(figure_16, figure_17, figure_18, figure_19, figure_20, figure_21, figure_22),
)
PAPER_FIGURES: Registry[PaperFigure] = Registry(
    "figure of the paper",
    {
        draw.__name__.replace("_", ""): PaperFigure(draw, draw in (figure_6, figure_12, figure_13, figure_22))
        for draw in _FIGURES
    },
)
"""By name, "figure4" to "figure22"."""


def _sources(snapshots: Iterable[Snapshot]) -> list[str]:
    return list(dict.fromkeys(s.source for s in snapshots))


def _step(s: Snapshot) -> str:
    return s.source if s.step is None else f"step {s.step:,}"


def _ridge(label: str, view: View) -> Ridge:
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


def _peak_lines(source: str, fit: Fit) -> list[Series]:
    lines = []
    for role in ROLES:
        found = fit.roles[role]
        name = f"{source} {LETTERS[role]}".strip()
        blocks = list(range(len(found.stds)))
        lines.append(Series(f"{name} measured", blocks, _over_mean([1 / one.std for one in found.measured])))
        lines.append(Series(f"{name} smoothed", blocks, _over_mean([1 / std for std in found.stds])))
    return lines


def _published_peaks() -> list[Series]:
    scheme = SCHEMES["adaln-gaussian-blockwise"]
    stds = {role: [start.weight.std for start in getattr(scheme, role)] for role in ROLES}
    return [
        Series(f"{LETTERS[role]} paper", list(range(len(found))), _over_mean([1 / std for std in found]))
        for role, found in stds.items()
    ]


def _over_mean(values: Sequence[float]) -> list[float]:
    mean = sum(values) / len(values)
    return [value / mean for value in values]
