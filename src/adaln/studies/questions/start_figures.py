"""Figures 21 and 22: gates that started with other spreads, and the blocks' peaks that block-wise starts are fitted to.

Source: A.9 and A.11 of the paper.
"""

from collections.abc import Mapping, Sequence
from statistics import correlation, fmean

from adaln.analysis import Group, distances
from adaln.analysis.fit import fit
from adaln.conditioning import SCHEMES, Normal, Start
from adaln.conditioning.blockwise import PUBLISHED_BLOCKS
from adaln.report import Block, Cell, Column, Marked, Measurement, Section, Table
from adaln.statistics import Interval, ratio_interval, t_interval
from adaln.studies.questions.distribution_figures import (
    figure_title,
    measure_shapes,
    number_table,
    shown,
    snapshots_by_seed,
)
from adaln.studies.rows import group, study_result
from adaln.studies.study import Outcome, Result, Setting, Study
from adaln.views.figures import LETTERS, PAPER_FIGURES

STARTS = {"std 0": "adaln-zero", "std 5e-4": "adaln-gaussian:5e-4", "std 1e-3": "adaln-gaussian"}
STARTS["std 5e-2"] = "adaln-gaussian:5e-2"
APART = {("std 5e-4", "std 0"): 0.0121, ("std 5e-4", "std 1e-3"): 0.0124}
"""The paper's mean |W - W'| of two trained networks (A.9)."""
PAIRS = (*APART, ("std 5e-2", "std 0"), ("std 5e-2", "std 1e-3"))


def compare_starts(outcomes: Sequence[Outcome]) -> Result:
    """Figure 21: trained gates of several starts in one panel, and how far they are apart, place by place."""
    title, by_start = figure_title("figure21"), group(outcomes)
    by_seed = snapshots_by_seed(outcomes)
    figure = PAPER_FIGURES["figure21"]
    measured = measure_shapes(outcomes, by_seed, figure)
    by_pair = {pair: gate_gaps(by_start[pair[0]], by_start[pair[1]]) for pair in PAIRS}
    gaps = {pair: t_interval(of_seeds) for pair, of_seeds in by_pair.items()}
    table = gap_table(gaps)
    seeds = sorted(by_seed)
    blocks: list[Block] = [
        figure.draw(by_seed[seeds[0]]),
        f"Drawn from seed {seeds[0]}; the tables are over all seeds.",
        table,
    ]
    sections = [Section("Figure", [*blocks, number_table(f"{title}: in numbers", measured)])]
    apart = [
        {"between": pair, "mean_absolute": gap.value, "low": gap.low, "high": gap.high, "published": APART.get(pair)}
        for pair, gap in gaps.items()
    ]
    numbers = {"seeds": seeds, "apart": apart, "numbers": measured}
    return study_result(title, [gap_verdict(by_pair)], table, sections, by_start, numbers)


def gate_gaps(ours: Sequence[Outcome], theirs: Sequence[Outcome]) -> list[float]:
    """mean |W - W'| of the gates of two starts, of every seed."""
    gaps = []
    for one, other in zip(ours, theirs, strict=True):
        by_group = {gap.group: gap for gap in distances(one.weights(), other.weights())}
        gaps.append(by_group[Group("gate")].mean_absolute)
    return gaps


def gap_table(gaps: Mapping[tuple[str, str], Interval]) -> Table:
    """The distances of A.9, ours beside the paper's."""
    columns = [Column("W"), Column("W'"), Column("mean |W − W'|", format=".4f"), Column("published", format=".4f")]
    rows: list[list[Cell]] = [
        [*pair, Measurement.of(gap), Marked(APART.get(pair), "muted")] for pair, gap in gaps.items()
    ]
    notes = ["Gates over all blocks, element by element; mean over seeds with 95 % t intervals. Published: A.9."]
    return Table("Trained gates of two starts apart", columns, rows, notes)


def gap_verdict(gaps: Mapping[tuple[str, str], Sequence[float]]) -> str:
    """Whether a start of 5e-4 ends as far from Zero's weights as from Gaussian's, over seeds."""
    zero, gaussian = (gaps[pair] for pair in APART)
    ratio, published = ratio_interval(gaussian, zero), APART["std 5e-4", "std 1e-3"] / APART["std 5e-4", "std 0"]
    return (
        f"Trained from std 5e-4, gates are {shown(ratio, '.2f')} times as far from those of adaLN-Gaussian as from"
        f" those of adaLN-Zero ({fmean(gaussian):.4f} and {fmean(zero):.4f}); in the paper {published:.2f} times"
        " (0.0124 and 0.0121)."
    )


def compare_peaks(outcomes: Sequence[Outcome]) -> Result:
    """Figure 22: the peak of every block's histogram, and whether the blocks rank as in the paper."""
    title, by_seed = figure_title("figure22"), snapshots_by_seed(outcomes)
    figure, seeds = PAPER_FIGURES["figure22"], sorted(by_seed)
    measured = measure_shapes(outcomes, by_seed, figure)
    table = number_table(f"{title}: in numbers", measured)
    try:
        ranks = {letter: rank_agreement(role, outcomes) for role, letter in LETTERS.items()}
        verdict, figures = [rank_verdict(ranks)], [figure.draw(by_seed[seeds[0]])]
    except ValueError as error:  # a role that has not moved has no peak
        ranks, verdict, figures = {}, [f"No peaks to compare: {error}."], []
    numbers = {
        "seeds": seeds,
        "rank_agreement": {letter: [r.value, r.low, r.high] for letter, r in ranks.items()},
        "numbers": measured,
    }
    return study_result(title, verdict, table, [Section("Figure", [*figures, table])], group(outcomes), numbers)


def rank_agreement(role: str, outcomes: Sequence[Outcome]) -> Interval:
    """Spearman's correlation of measured stds over blocks with the paper's block-wise stds, over seeds.

    Raises ValueError where a block has no peak, or there are not the paper's 28 blocks.
    """
    starts = getattr(SCHEMES["adaln-gaussian-blockwise"], role)
    paper = [start.weight.std for start in starts if isinstance(start, Start) and isinstance(start.weight, Normal)]
    agreements = []
    for outcome in outcomes:
        fitted = fit(outcome.weights(), "peak", by_block=True)
        measured = [estimate.std for estimate in fitted.roles[role].measured]
        if len(measured) != PUBLISHED_BLOCKS:
            raise ValueError(f"these networks have {len(measured)} blocks, the paper's fits {PUBLISHED_BLOCKS}")
        agreements.append(spearman(measured, paper))
    return t_interval(agreements)


def spearman(a: Sequence[float], b: Sequence[float]) -> float:
    """Correlation of ranks.

    >>> spearman([1.0, 2.0, 3.0], [10.0, 30.0, 900.0]), spearman([1.0, 2.0, 3.0], [3.0, 2.0, 1.0])
    (1.0, -1.0)
    """
    ranks = ([sorted(values).index(value) for value in values] for values in (a, b))
    return correlation(*ranks)


def rank_verdict(ranks: Mapping[str, Interval]) -> str:
    """For which roles the blocks' order by spread agrees with the paper's fits."""
    ways: dict[str, list[str]] = {"are followed by": [], "are run against by": [], "are not told to fit": []}
    for letter, r in ranks.items():
        way = "are followed by" if r.low > 0 else "are run against by" if r.high < 0 else "are not told to fit"
        ways[way].append(f"{letter} ({r.value:+.2f} [{r.low:+.2f}, {r.high:+.2f}])")
    parts = "; ".join(f"{way} {', '.join(those)}" for way, those in ways.items() if those)
    return (
        f"The paper's fits of the spread over 28 blocks (A.11) {parts}: rank correlation, 1 the same order, mean over"
        " seeds with 95 % t intervals."
    )


START_FIGURES = {
    "figure21": Study(
        "figure21",
        figure_title("figure21"),
        tuple(Setting(label, scheme, is_scored=False) for label, scheme in STARTS.items()),
        compare_starts,
    ),
    "figure22": Study(
        "figure22",
        figure_title("figure22"),
        (Setting("adaln-zero", "adaln-zero", steps=10_000, keeps_depth=True, is_scored=False),),
        compare_peaks,
    ),
}
