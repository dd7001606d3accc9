"""Figures 4 to 8 and 11 to 19: distributions of weights under adaLN-Zero beside adaLN-Mix, at the paper's timestamps.

All of them draw the same two runs per seed, which are trained once. What the paper says of them is in its sections
3.3, 3.4 and A.4 to A.8.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import fmean

from adaln.report import Block, Cell, Column, Measurement, Section, Table
from adaln.statistics import Interval, ratio_interval, t_interval
from adaln.studies.choices import OF_WEIGHTS
from adaln.studies.rows import group, run_names, study_result
from adaln.studies.study import Outcome, Result, Setting, Study
from adaln.views.figures import PAPER_FIGURES, PaperFigure
from adaln.views.snapshots import Snapshot, View, snapshot

STAMPS = (160, 10_000, 50_000, 200_000, 400_000)
"""The paper's timestamps; a scale has its own steps for them."""
SCHEMES_SHOWN = ("adaln-zero", "adaln-mix")
UNIFORM = 5 / 9
"""Sarle's coefficient of a uniform distribution; two humps have more, up to 1."""
EARLY, LATE = "10,000 steps", "50,000 steps"
PUBLISHED_FALL = 0.8
"""Nats by which the entropy of adaLN-Mix's gates falls from 10K to 50K steps; that of adaLN-Zero's rises."""
NO_CLAIM = "The paper shows this figure without a number to be held against."
OF_OTHER_RUNS = ("figure21", "figure22")
"""Figures whose runs are not those of `SCHEMES_SHOWN` at `STAMPS`."""


def stamped(schemes: Sequence[str], stamps: Sequence[int]) -> tuple[Setting, ...]:
    """Every scheme at every timestamp: the timestamps of a scheme are moments of one run."""
    return tuple(
        Setting(name, name, steps=stamp, group=f"{stamp:,} steps", is_scored=False)
        for name in schemes
        for stamp in stamps
    )


@dataclass(frozen=True, slots=True)
class Shape:
    """One distribution at one timestamp: a value per seed for each number, None where all weights are alike."""

    scheme: str
    what: str
    block: str | None
    stamp: str
    """The paper's timestamp, e.g. "10,000 steps"."""
    step: int
    std: tuple[float, ...]
    skewness: tuple[float | None, ...]
    kurtosis: tuple[float | None, ...]
    """Excess: 0 for a Gaussian, negative for two humps."""
    distance: tuple[float | None, ...]
    """Kolmogorov-Smirnov, to the Gaussian of the same mean and std."""
    entropy: tuple[float | None, ...]
    """Differential, in nats."""


def snapshots_by_seed(outcomes: Sequence[Outcome]) -> dict[int, list[Snapshot]]:
    """Every scheme at every timestamp, for each seed; timestamps that fall on one step are seen once."""
    by_seed: dict[int, list[Snapshot]] = {}
    for label, runs in group(outcomes).items():
        moments = {(one.job.config.seed, one.job.config.steps): one for one in runs}
        for seed, step in sorted(moments):
            by_seed.setdefault(seed, []).append(snapshot(label, step, moments[seed, step].weights()))
    return by_seed


def measure_shapes(
    outcomes: Sequence[Outcome], by_seed: Mapping[int, Sequence[Snapshot]], figure: PaperFigure
) -> list[Shape]:
    """The numbers of every quantity, scheme and timestamp; by block of the last timestamp alone."""
    stamps = dict.fromkeys((o.job.label, o.job.group, o.job.config.steps) for o in outcomes)
    last = max(step for _, _, step in stamps)
    measured = []
    for scheme, stamp, step in stamps:
        if figure.by_block and step < last:
            continue
        seeds = [next(s for s in seed if (s.source, s.step) == (scheme, step)) for seed in by_seed.values()]
        for what in figure.of.values():
            blocks = seeds[0].by_block(what) if figure.by_block else {None: seeds[0].view(what)}
            for block in blocks:
                views = [s.by_block(what)[block] if block else s.view(what) for s in seeds]
                measured += [_shape(scheme, what, block, stamp, step, [view for view in views if view])] * all(views)
    return measured


def _shape(scheme: str, what: str, block: str | None, stamp: str, step: int, views: Sequence[View]) -> Shape:
    summaries = [view.summary for view in views if view.summary]
    moments = [view.moments for view in views]
    return Shape(
        *(scheme, what, block, stamp, step),
        std=tuple(m.std or 0.0 for m in moments),
        skewness=tuple(m.skewness for m in moments),
        kurtosis=tuple(m.excess_kurtosis for m in moments),
        distance=tuple(s.gaussian.ks_distance if s.gaussian else None for s in summaries),
        entropy=tuple(s.entropy.nats for s in summaries),
    )


def number_table(title: str, shapes: Sequence[Shape]) -> Table:
    """The numbers, each a mean over seeds with its interval; timestamps that fall on one step are one row."""
    shapes = list({(one.scheme, one.what, one.block, one.step): one for one in shapes}.values())
    by_block = any(one.block for one in shapes)
    columns = [Column("scheme"), Column("values"), *[Column("block")] * by_block, Column("step", format=",d")]
    columns += [
        Column("std", format=".2e"),
        Column("kurtosis", "excess", ".2f"),
        Column("KS", format=".3f"),
        Column("entropy", "nats", ".3f"),
    ]
    rows: list[list[Cell]] = []
    for one in shapes:
        numbers = map(over_seeds, (one.std, one.kurtosis, one.distance, one.entropy))
        rows.append([one.scheme, one.what, *[one.block] * by_block, one.step, *numbers])
    seeds = len(shapes[0].std) if shapes else 0
    notes = [
        f"Mean over {seeds} seeds, 95 % t intervals in brackets. Weights in training, not averaged ones. KS: distance"
        " to the Gaussian of the same mean and std; entropy: differential. –: all values are alike."
    ]
    return Table(title, columns, rows, notes)


def over_seeds(values: Sequence[float | None]) -> Measurement | None:
    """Mean with interval; None where a seed has no such number."""
    known = [value for value in values if value is not None]
    return Measurement.of(t_interval(known)) if known and len(known) == len(values) else None


def mean(values: Sequence[float | None]) -> float | None:
    """The mean of `over_seeds` alone."""
    measured = over_seeds(values)
    return measured.value if measured else None


def draw_figure(name: str, outcomes: Sequence[Outcome]) -> Result:
    """The figure from the first seed, its numbers over all seeds, and what they say beside the paper's words."""
    entry, title, by_scheme = PAPER_FIGURES[name], figure_title(name), group(outcomes)
    by_seed = snapshots_by_seed(outcomes)
    measured = measure_shapes(outcomes, by_seed, entry)
    table, seeds = number_table(f"{title}: in numbers", measured), sorted(by_seed)
    figure = entry.draw(by_seed[seeds[0]])
    blocks: list[Block] = [figure, f"Drawn from seed {seeds[0]}; the table is over all seeds.", table]
    numbers = {"seeds": seeds, "numbers": measured}
    result = study_result(title, verdict(name, measured), table, [Section("Figure", blocks)], by_scheme, numbers)
    runs = {label: list(dict.fromkeys(names)) for label, names in run_names(by_scheme).items()}
    return replace(result, more={"runs": runs})


def figure_title(name: str) -> str:
    """Number and subject."""
    return f"Figure {name.removeprefix('figure')}: {PAPER_FIGURES[name].shows}"


def verdict(figure: str, shapes: Sequence[Shape]) -> list[str]:
    """What a figure shows, in words, beside what the paper says of it."""
    if not shapes:
        return ["Nothing to see: these networks hold no values of that kind."]
    if any(one.block for one in shapes):
        return [over_blocks(shapes)]
    lines = [course(scheme, what, shapes) for scheme, what in dict.fromkeys((one.scheme, one.what) for one in shapes)]
    claims = {"figure5": entropy_claim, "figure8": humps_claim}
    claims |= dict.fromkeys(("figure4", "figure7", "figure11"), gaussian_claim)
    return [claims[figure](shapes), *lines] if figure in claims else [*lines, NO_CLAIM]


def course(scheme: str, what: str, shapes: Sequence[Shape]) -> str:
    """One distribution from the first timestamp to the last."""
    stamps = [one for one in shapes if (one.scheme, one.what) == (scheme, what)]
    first, last = stamps[0], stamps[-1]
    parts = [f"std {mean(first.std):.1e} to {mean(last.std):.1e}"]
    for word, spec, a, b in (
        ("excess kurtosis", "+.2f", mean(first.kurtosis), mean(last.kurtosis)),
        ("distance to its Gaussian", ".3f", mean(first.distance), mean(last.distance)),
        ("entropy", ".2f", mean(first.entropy), mean(last.entropy)),
    ):
        if b is not None:
            parts.append(f"{word} {'none' if a is None else format(a, spec)} to {format(b, spec)}")
    return f"{scheme}, {what}, from step {first.step:,} to {last.step:,}: {', '.join(parts)}."


def gaussian_claim(shapes: Sequence[Shape]) -> str:
    """Whether weights that adaLN-Zero starts at 0 come to look like a Gaussian, for which the paper starts from one."""
    zero = [one for one in shapes if one.scheme == "adaln-zero"]
    known = [one for one in zero if mean(one.distance) is not None]
    text = "the paper starts these weights from a Gaussian because trained ones resemble one"
    if len(known) < 2:
        return f"Nothing can be said of these weights, which had not moved at two timestamps; {text}."
    change = change_of(known[0].distance, known[-1].distance)
    way = "come nearer to" if change.high < 0 else "go away from" if change.low > 0 else "come no nearer to"
    return (
        f"Under adaln-zero these weights {way} a Gaussian: the greatest gap to that of their mean and std is"
        f" {mean(known[-1].distance):.3f} at step {known[-1].step:,}, {mean(known[0].distance):.3f} at step"
        f" {known[0].step:,} ({shown(change, '+.3f')}); {text}."
    )


def change_of(before: Sequence[float | None], after: Sequence[float | None]) -> Interval:
    """Over the seeds that have both."""
    pairs = [(a, b) for a, b in zip(before, after, strict=True) if a is not None and b is not None]
    return t_interval([b - a for a, b in pairs])


def shown(number: Interval, spec: str) -> str:
    """With its 95 % interval."""
    return f"{number.value:{spec}}, 95 % [{number.low:{spec}}, {number.high:{spec}}]"


def entropy_claim(shapes: Sequence[Shape]) -> str:
    """Figure 5: how much each scheme's entropy changes from 10K to 50K, or from what stands in for them."""
    claim = f"in the paper, from 10K to 50K steps, that of Mix falls by {PUBLISHED_FALL} and that of Zero rises"
    changes = {scheme: entropy_change(scheme, shapes) for scheme in ("adaln-mix", "adaln-zero")}
    if None in changes.values():
        return f"Nothing can be said of the entropy, for no two timestamps stand for the paper's; {claim}."
    steps = sorted({one.step for one in shapes if one.stamp in (EARLY, LATE)})
    words = {scheme: change_word(change) for scheme, change in changes.items() if change}
    parts = " and ".join(
        f"of {scheme} {words[scheme]} ({shown(change, '+.2f')} nats)" for scheme, change in changes.items() if change
    )
    agrees = words == {"adaln-mix": "falls", "adaln-zero": "rises"}
    outcome = "as in the paper" if agrees else "not as in the paper"
    return f"From step {steps[0]:,} to {steps[-1]:,} the entropy {parts}, {outcome}: {claim}."


def entropy_change(scheme: str, shapes: Sequence[Shape]) -> Interval | None:
    """Entropy at 50K minus that at 10K, over seeds; None where either is not known or they are one step."""
    at = {one.stamp: one for one in shapes if one.scheme == scheme}
    if EARLY not in at or LATE not in at or at[EARLY].step == at[LATE].step:
        return None
    return change_of(at[EARLY].entropy, at[LATE].entropy) if None not in at[EARLY].entropy + at[LATE].entropy else None


def change_word(change: Interval) -> str:
    """Falls or rises where the interval excludes 0."""
    if change.low <= 0 <= change.high:
        return "does not clearly change"
    return "falls" if change.value < 0 else "rises"


def humps_claim(shapes: Sequence[Shape]) -> str:
    """Figure 8: whether the distribution has two humps, by Sarle's coefficient (skewness^2 + 1) / kurtosis.

    Source: SAS/STAT User's Guide, CLUSTER procedure, without its correction for small samples.
    """
    last = [one for one in shapes if one.step == max(each.step for each in shapes)]
    parts = []
    for scheme in dict.fromkeys(one.scheme for one in last):
        one = next(each for each in last if each.scheme == scheme)
        coefficients = [bimodality(*pair) for pair in zip(one.skewness, one.kurtosis, strict=True)]
        known = [one for one in coefficients if one is not None]
        if len(known) < len(coefficients):
            parts.append(f"all alike under {scheme}")
            continue
        value = t_interval(known)
        humps = "two humps" if value.low > UNIFORM else "one hump" if value.high < UNIFORM else "one hump or two"
        parts.append(f"{humps} under {scheme} ({shown(value, '.2f')})")
    found = "; ".join(parts)
    return (
        f"{found[0].upper()}{found[1:]}: Sarle's coefficient at step {last[0].step:,}, where above {UNIFORM:.2f} speaks"
        " for two; the paper shows two."
    )


def bimodality(skewness: float | None, kurtosis: float | None) -> float | None:
    """(skewness^2 + 1) / kurtosis: 1/3 for a Gaussian, 5/9 for a uniform, 1 for two points.

    >>> round(bimodality(0.0, 0.0), 2), bimodality(0.0, -2.0), bimodality(None, None)
    (0.33, 1.0, None)
    """
    if skewness is None or kurtosis is None:
        return None
    return (skewness**2 + 1) / (kurtosis + 3)


def over_blocks(shapes: Sequence[Shape]) -> str:
    """How unlike the blocks are: the reason for block-wise starts (A.11)."""
    parts = []
    for scheme in dict.fromkeys(one.scheme for one in shapes):
        blocks = {str(one.block): one.std for one in shapes if one.scheme == scheme}
        if not all(map(min, blocks.values())):
            parts.append(f"not moved everywhere under {scheme}")
            continue
        narrow, wide = (find(blocks, key=lambda block: fmean(blocks[block])) for find in (min, max))
        ratio = ratio_interval(blocks[wide], blocks[narrow])
        parts.append(f"{wide} is {shown(ratio, '.2f')} times as wide as {narrow} under {scheme}")
    first = f"{'; '.join(parts)}: the widest and the narrowest block at step {shapes[0].step:,}"
    return f"{first}; the paper gives each block a start of its own (A.11)."


FIGURES = {
    name: Study(name, figure_title(name), stamped(SCHEMES_SHOWN, STAMPS), partial(draw_figure, name))
    for name in PAPER_FIGURES
    if name not in {*OF_WEIGHTS, *OF_OTHER_RUNS}
}
