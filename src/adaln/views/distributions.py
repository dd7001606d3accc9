"""What the values of a model look like, as tables and figures for one section of a page."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from itertools import pairwise
from typing import Any

from adaln.analysis import Distance, Entropy, Group, distances
from adaln.report import Axis, Block, Cell, Column, Figure, Lines, Measurement, Section, Series, Table
from adaln.specs import By
from adaln.views.figures import LETTERS, PAPER_FIGURES, entropy_figure, last_of_each, per_branch
from adaln.views.snapshots import Snapshot, View

Draw = Callable[[Sequence[Snapshot]], Figure]
_Z95 = 1.96
MEASURES: Mapping[str, tuple[str, str, Callable[[View], Cell]]] = {
    "n": ("finite", ",d", lambda view: view.moments.elements - view.moments.nans - view.moments.infs),
    "zeros": ("%", ".1f", lambda view: 100 * view.moments.zero_share),
    "mean": ("", ".1e", lambda view: view.moments.mean),
    "std": ("", ".2e", lambda view: view.moments.std),
    "skew": ("", ".2f", lambda view: view.moments.skewness),
    "kurtosis": ("excess", ".2f", lambda view: view.moments.excess_kurtosis),
    "KS": ("", ".3f", lambda view: fit.ks_distance if (fit := view.gaussian) else None),
    "KL": ("nats", ".4f", lambda view: fit.kl_nats if (fit := view.gaussian) else None),
    "h": ("nats", ".3f", lambda view: view.summary.entropy.nats if view.summary else None),
}
"""Column -> its unit, how its numbers are written, and what it reads of a distribution."""
MOVED, APART = "Mean |W − W'| from checkpoint to checkpoint", "How far the models are apart"


def distributions_section(snapshots: Sequence[Snapshot], by: By = "role") -> Section:
    """The last step in numbers, every figure that the snapshots can fill, what moved; by role every step in numbers.

    By block and branch there are many numbers: pictures come first, and tables hold the last step only.
    """
    last = last_of_each(snapshots)
    numbers, pictures, moved = shape_table(last, by), figures(snapshots, by), difference_tables(snapshots, by)
    blocks: list[Block] = [*pictures, numbers, *moved, entropy_table(last, by)]
    if by == "role":
        every_step = [shape_table(snapshots, by, "at every step")] * (len(last) < len(snapshots))
        blocks = [numbers, *pictures, *moved, *every_step, entropy_table(snapshots, by)]
    return Section(f"Distributions by {by}", [_sources_text(snapshots), *blocks], spreads(last[0]))


def spreads(snapshot: Snapshot) -> str:
    """Std and excess kurtosis of gate, scale and shift over all blocks, in a sentence."""
    said = [
        f"{name} without a finite value"
        if view.moments.std is None
        else f"{name} of std {view.moments.std:.2g}"
        + (f" and excess kurtosis {kurtosis:+.2g}" if (kurtosis := view.moments.excess_kurtosis) is not None else "")
        for name in ("gate", "scale", "shift")
        if (view := snapshot.view(name))
    ]
    at = f" at step {snapshot.step:,}" if snapshot.step is not None else ""
    return f"{snapshot.source}{at}: {', '.join(said)}." if said else ""


def _sources_text(snapshots: Sequence[Snapshot]) -> str:
    sources = ", ".join(f"`{s.source}`" for s in last_of_each(snapshots))
    steps = sorted({s.step for s in snapshots if s.step is not None})
    at = f", at steps {', '.join(f'{step:,}' for step in steps)}" if steps else ""
    return f"The values of the weights of {sources}{at}."


def selected(snapshots: Sequence[Snapshot], by: By) -> list[tuple[Snapshot, Group, View]]:
    """What a table by role, block or branch shows: group by group, so that steps and blocks compare."""
    found = dict.fromkeys(group for s in snapshots for group in s.views if level(group) == by)
    names = list(dict.fromkeys(group.name for group in found))
    groups = sorted(found, key=lambda group: names.index(group.name))
    return [(s, group, s.views[group]) for group in groups for s in snapshots if group in s.views]


def level(group: Group) -> By:
    """How far a group is narrowed down."""
    return "branch" if group.branch else "block" if group.block else "role"


def shape_table(snapshots: Sequence[Snapshot], by: By, when: str = "") -> Table:
    """Moments, and the distance to the Gaussian of the same mean and std."""
    note = (
        "Moments over n. KS: sup |F(x) − Φ(x)| over bfloat16 lattice edges; KL: sum p log(p / q) over the bins of h;"
        " both against the Gaussian of the same mean and std. –: not defined (all values alike), or not kept by an"
        " online recording."
    )
    return _measured(f"Moments and Gaussian fit {when}".strip(), snapshots, by, list(MEASURES)[:-1], note)


def overview_table(snapshots: Sequence[Snapshot], by: By, title: str = "The last step in numbers") -> Table:
    """The last step of each source, for a terminal of 80 columns."""
    note = "KS: distance to the Gaussian of the same mean and std; h: differential entropy."
    return _measured(title, last_of_each(snapshots), by, ("std", "kurtosis", "KS", "h"), note)


def _measured(title: str, snapshots: Sequence[Snapshot], by: By, names: Sequence[str], note: str) -> Table:
    """A row for each selected view, with these of the `MEASURES`."""
    found, measures = selected(snapshots, by), [MEASURES[name] for name in names]
    columns = [Column(name, unit, spec) for name, (unit, spec, _) in zip(names, measures, strict=True)]
    rows = [[*_place(s, group, by), *(read(view) for _, _, read in measures)] for s, group, view in found]
    return Table(title, [*_place_columns(by), *columns], rows, [note, *_strays(found)]).with_first_in_title()


def _strays(found: Sequence[tuple[Snapshot, Group, View]]) -> list[str]:
    """What is not finite is named, never dropped silently."""
    return [
        f"{s.label}: the {group.name} of {group.block or 'the model'} holds {m.nans:,} NaN and {m.infs:,} infinite"
        " values, which are not in these numbers."
        for s, group, view in found
        if (m := view.moments).nans or m.infs
    ]


def entropy_table(snapshots: Sequence[Snapshot], by: By) -> Table:
    """Both entropies of every group in every checkpoint, with estimator and bins."""
    columns = [
        *_place_columns(by),
        Column("differential entropy h", "nats, 95 %", ".3f"),
        Column("histogram entropy H", "nats, 95 %", ".3f"),
        Column("bins of h"),
    ]
    rows, notes = [], ["A Gaussian of std s has h = 0.5 ln(2πe s²). Checkpoints only: recordings keep no entropies."]
    for s, group, view in selected(snapshots, by):
        if view.summary:
            h, H = view.summary.entropy, view.summary.histogram_entropy
            rows.append([*_place(s, group, by), _nats(h), _nats(H), h.bins])
            how = f"h: {h.estimator}. H: {H.estimator}, bins {H.bins}."
            notes += [how] * (how not in notes)
    return Table("Entropy of the values", columns, rows, notes).with_first_in_title()


def _nats(entropy: Entropy) -> Measurement | None:
    if entropy.nats is None:
        return None
    half = _Z95 * entropy.standard_error
    return Measurement(entropy.nats, entropy.nats - half, entropy.nats + half)


def difference_tables(snapshots: Sequence[Snapshot], by: By) -> list[Table]:
    """How far weights move from checkpoint to checkpoint, and how far the sources are apart at last (A.9)."""
    by_source: dict[str, list[Snapshot]] = {}
    for s in snapshots:
        if s.tensors is not None:
            by_source.setdefault(s.source, []).append(s)
    last = [found[-1] for found in by_source.values()]
    apart = [pair for other in last[1:] if (pair := compared(last[0], other))]
    moved = [pair for found in by_source.values() for s, t in pairwise(found) if (pair := compared(s, t))]
    return [movement_table(moved, by)] * bool(moved) + [distance_table(apart, by)] * bool(apart)


Pair = tuple[Snapshot, Snapshot, list[Distance]]


def compared(a: Snapshot, b: Snapshot) -> Pair | None:
    """The distances between two snapshots of one shape; None where there is nothing to subtract."""
    try:
        return a, b, distances(a.tensors or {}, b.tensors or {}, a.find_rows)
    except ValueError:
        return None


def movement_table(pairs: Sequence[Pair], by: By) -> Table:
    """mean |W − W'| between consecutive checkpoints: a row for each group of values, a column for each interval."""
    intervals = dict.fromkeys(sorted((a.step or 0, b.step or 0) for a, b, _ in pairs))
    rows: dict[tuple[Cell, ...], dict[tuple[int, int], float]] = {}
    for a, b, found in pairs:
        for d in found:
            if level(d.group) == by:
                key = (a.source, *_place(a, d.group, by)[1:])
                rows.setdefault(key, {})[a.step or 0, b.step or 0] = d.mean_absolute
    columns = [Column("source"), *_place_columns(by)[1:]]
    columns += [Column(f"{first:,} → {last:,}", format=".2e") for first, last in intervals]
    cells = [[*key, *(found.get(interval) for interval in intervals)] for key, found in rows.items()]
    return Table(MOVED, columns, cells, ["Element by element (A.9)."])


def distance_table(pairs: Sequence[Pair], by: By) -> Table:
    """How far the same weights of two models are apart."""
    columns = [
        Column("from"),
        Column("to"),
        *_place_columns(by)[1:],
        Column("mean |W − W'|", format=".3e"),
        Column("‖W − W'‖ / ‖W‖", format=".3f"),
        Column("cosine", format=".3f"),
    ]
    rows = [
        [a.label, b.label, *_place(b, d.group, by)[1:], d.mean_absolute, d.relative, d.cosine]
        for a, b, found in pairs
        for d in found
        if level(d.group) == by
    ]
    return Table(APART, columns, rows, ["Element by element, W the first of the two (A.9)."])


def figures(snapshots: Sequence[Snapshot], by: By) -> list[Figure]:
    """Every figure that the snapshots can fill: the paper's by role or by block, and each branch's blocks."""
    if by == "branch":
        drawings: list[Draw] = [partial(per_branch, role) for role in LETTERS]
    else:
        of_paper = {name: entry for name, entry in PAPER_FIGURES.items() if entry.by_block == (by == "block")}
        if len(last_of_each(snapshots)) == len(snapshots):
            of_paper.pop("figure21", None)  # of one step each, sources share a panel in figure 4 already
        drawings = [std_over_blocks] * (by == "block")
        drawings += [entry.draw for entry in of_paper.values()]
        drawings += [entropy_figure(role).draw for role in ("scale", "shift")] * (by == "role")
    found: list[Figure] = []
    for draw in drawings:
        with suppress(ValueError):  # the snapshots do not hold what this figure is of
            found.append(draw(snapshots))
    return found


def std_over_blocks(snapshots: Sequence[Snapshot]) -> Lines:
    """Std of each role in each block, at the last step of each source; gaps where all values are alike."""
    last = last_of_each(snapshots)
    curves = {
        (f"{s.source} {letter}" if len(last) > 1 else letter): s.by_block(role)
        for s in last
        for role, letter in LETTERS.items()
        if s.by_block(role)
    }
    if not curves:
        raise ValueError(f"no roles by block in {', '.join(s.source for s in last)}; expected a source that has them")
    series = [
        Series(name, list(range(len(found))), [view.moments.std or None for view in found.values()])
        for name, found in curves.items()
    ]
    counts = {view.moments.elements for found in curves.values() for view in found.values()}
    caption = f"Std of the weights W of each role in each block (n = {min(counts):,} values or more), at the last step."
    return Lines("Std over blocks", caption, Axis("block", "in forward order"), Axis("std", "", "log"), series)


def as_data(snapshots: Sequence[Snapshot], by: By) -> list[dict[str, Any]]:
    """Everything known of the selected groups but the histograms, which are beside the figures."""
    rows = []
    for s, group, view in selected(snapshots, by):
        row = {"source": s.source, "step": s.step, **asdict(group), "moments": asdict(view.moments)}
        if view.summary:
            found = asdict(view.summary)
            row |= {name: found[name] for name in ("gaussian", "entropy", "histogram_entropy")}
        rows.append(row)
    return rows


def _place_columns(by: By) -> list[Column]:
    extra = {"role": [], "block": [Column("block")], "branch": [Column("block"), Column("branch")]}[by]
    return [Column("model"), Column("values"), *extra]


def _place(s: Snapshot, group: Group, by: By) -> list[Cell]:
    extra = {"role": [], "block": [group.block], "branch": [group.block, group.branch]}[by]
    return [s.label, group.name, *extra]
