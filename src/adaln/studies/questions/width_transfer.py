"""Which rule carries the best std to another width: the same std, 1 / sqrt(width), or 1 / width."""

from collections.abc import Mapping, Sequence
from itertools import product
from statistics import fmean

from adaln.report import Axis, Block, Cell, Column, Lines, Matrix, Measurement, Section, Series, Table
from adaln.statistics import Difference, paired_differences, t_interval
from adaln.studies.published_numbers import gaussian_scheme
from adaln.studies.rows import Responses, change_cells, plain_difference, read_responses, study_result
from adaln.studies.study import Outcome, Result, Setting, Study

FIXED = "std fixed"
RULES: Mapping[str, float] = {FIXED: 0.0, "std ~ 1/√width": 0.5, "std ~ 1/width": 1.0}
"""Rule -> power p: at width w times the usual one the std is base * w^-p."""
BASES = (5e-4, 1e-3, 2e-3)
WIDTHS = (1.0, 0.5, 2.0)
"""Over the scale's own width, where all rules agree."""
OTHER_WIDTHS = tuple(width for width in WIDTHS if width != 1)
TITLE = "Which rule carries the best std to another width?"


def std_at(rule: str, base: float, width: float) -> float:
    """base * width^-p, to three digits."""
    return float(f"{base * width ** -RULES[rule]:.3g}")


def row(width: float, std: float) -> str:
    """The label of a network's width and start."""
    return f"width × {width:g}, std {std:g}"


def settings() -> tuple[Setting, ...]:
    """Every (width, std) that a rule leads to from a base, once."""
    pairs = {(width, std_at(rule, base, width)) for width, base, rule in product(WIDTHS, BASES, RULES)}
    ordered = sorted(pairs, key=lambda pair: (WIDTHS.index(pair[0]), pair[1]))
    return tuple(Setting(row(width, std), gaussian_scheme(std), width_factor=width) for width, std in ordered)


def reduce(outcomes: Sequence[Outcome]) -> Result:
    """The base that is best at the usual width, carried to the others by every rule."""
    responses = read_responses(outcomes)
    base = min(BASES, key=lambda std: fmean(responses.fid[row(1.0, std)]))
    carried = {rule: elsewhere(responses, rule, base) for rule in RULES}
    changes = paired_differences(carried, FIXED)
    table = rule_table(responses, base, carried, changes)
    blocks: list[Block] = [table, heat_map(responses, base), curves(responses)]
    numbers = {
        "score": responses.score,
        "best_base_std": base,
        "fid": responses.fid,
        "best_std_by_width": best_stds(responses),
        "rules": {rule: {"fid_at_other_widths": values} for rule, values in carried.items()},
        "changes": {rule: plain_difference(change) for rule, change in changes.items()},
    }
    lines = verdict(responses, base, carried, changes)
    return study_result(TITLE, lines, table, [Section("Result", blocks)], responses.by_label, numbers)


def elsewhere(responses: Responses, rule: str, base: float) -> list[float]:
    """For every seed the mean score over the other widths, at the std that the rule gives there."""
    others = [responses.fid[row(width, std_at(rule, base, width))] for width in OTHER_WIDTHS]
    return [fmean(seed) for seed in zip(*others, strict=True)]


def best_stds(responses: Responses) -> dict[str, float]:
    """At every width the std of the lowest mean score, of all that were tried there."""
    return {f"{width:g}": min(tried(width), key=lambda std: fmean(responses.fid[row(width, std)])) for width in WIDTHS}


def tried(width: float) -> list[float]:
    """The stds of a width, ascending."""
    return sorted({std_at(rule, base, width) for rule, base in product(RULES, BASES)})


def verdict(
    responses: Responses, base: float, carried: Mapping[str, Sequence[float]], changes: Mapping[str, Difference]
) -> list[str]:
    """Where the best std lies at every width, and whether a rule does better than the fixed std."""
    lowest = min(carried, key=lambda rule: fmean(carried[rule]))
    stds = ", ".join(f"{std:g} at width × {width}" for width, std in best_stds(responses).items())
    clear = [f"{rule} {change.verdict}" for rule, change in changes.items() if change.distinguishable]
    against = f"Against {FIXED}: {'; '.join(clear)}." if clear else f"No rule is told from {FIXED} over these seeds."
    return [
        f"At the usual width std {base:g} scores best. Carried to the others it scores lowest by {lowest}"
        f" (mean {responses.score} {fmean(carried[lowest]):.1f}). {against}",
        f"Lowest mean score of all stds tried: {stds}. A least of noisy means: the curves say how flat it is.",
    ]


def rule_table(
    responses: Responses, base: float, carried: Mapping[str, Sequence[float]], changes: Mapping[str, Difference]
) -> Table:
    """A row per rule: where it puts the std, and the score there."""
    columns = [
        Column("rule"),
        *(Column(f"std at width × {width:g}", format=".3g") for width in OTHER_WIDTHS),
        *(Column(f"{responses.score} at width × {width:g}", format=".1f") for width in OTHER_WIDTHS),
        Column("change", f"mean {responses.score}, against {FIXED}", "+.1f"),
        Column("verdict"),
    ]
    rows: list[list[Cell]] = []
    for rule in carried:
        stds = {width: std_at(rule, base, width) for width in OTHER_WIDTHS}
        spans = [Measurement.of(t_interval(responses.fid[row(*cell)])) for cell in stds.items()]
        rows.append([rule, *stds.values(), *spans, *change_cells(changes.get(rule))])
    notes = [
        f"From std {base:g}, the best of {', '.join(f'{b:g}' for b in BASES)} at the usual width. Mean over"
        f" {responses.num_seeds} seeds with 95 % t intervals; changes paired, their intervals and verdicts hold for"
        " both together (Bonferroni)."
    ]
    return Table(TITLE, columns, rows, notes)


def heat_map(responses: Responses, base: float) -> Matrix:
    """Score by rule and width, above the lowest at that width."""
    widths = sorted(WIDTHS)
    least = {w: min(fmean(responses.fid[row(w, std)]) for std in tried(w)) for w in widths}
    means = [[fmean(responses.fid[row(w, std_at(rule, base, w))]) - least[w] for w in widths] for rule in RULES]
    caption = (
        f"Mean {responses.score} over n = {responses.num_seeds} seeds above the lowest of all stds tried at that width."
        " The lowest was chosen on the same runs, so what is lost is overstated."
    )
    names = [f"width × {w:g}" for w in widths]
    return Matrix(f"What a rule loses, from std {base:g}", caption, list(RULES), names, means, format=".1f")


def curves(responses: Responses) -> Lines:
    """Score against std, a curve for every width."""
    series = [
        Series.of(f"width × {w:g}", tried(w), [t_interval(responses.fid[row(w, std)]) for std in tried(w)])
        for w in sorted(WIDTHS)
    ]
    caption = f"Mean of n = {responses.num_seeds} seeds with 95 % t intervals."
    axes = Axis("std", "", "log"), Axis(responses.score, "lower is better")
    return Lines(f"{responses.score} against std at every width", caption, *axes, series)


WIDTH_TRANSFER = Study("width-transfer", TITLE, settings(), reduce)
