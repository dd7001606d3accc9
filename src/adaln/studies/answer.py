"""The sentence that a study's page begins with: the answer, how sure it is; and what it would take to know more."""

from math import isfinite

from adaln.statistics import Difference
from adaln.studies.rows import Comparison, data_name


def answer(comparison: Comparison) -> str:
    """Which scheme ends best, or that none is better than the reference."""
    responses, reference = comparison.responses, comparison.reference
    steps, data = max(responses.by_step[reference][0]), data_name(responses.by_label[reference][0])
    than = f"{reference} by {responses.score} at {steps:,} steps of {data}"
    seeds = f"{responses.num_seeds} seed{'s' * (responses.num_seeds > 1)}"
    differing = sorted((c.absolute.value, label) for label, c in comparison.changes.items() if c.distinguishable)
    if not differing:
        sentence = f"No scheme is distinguishable from {than}, {seeds}"
    elif differing[0][0] < 0:
        label = differing[0][1]
        sentence = f"{label} is {size(comparison.changes[label])} than {than}, {seeds}, {sureness(comparison, label)}"
    else:
        label = differing[-1][1]
        worse = f"{label} is {size(comparison.changes[label])}, {sureness(comparison, label)}"
        sentence = f"No scheme is better than {than}, {seeds}: {worse}"
    return f"{sentence}."


def size(change: Difference) -> str:
    """`"18 % better"`; in points where the relative change has no bounds."""
    relative, word = change.relative, "better" if change.absolute.value < 0 else "worse"
    points = f"{abs(change.absolute.value):.2f} points"
    return f"{abs(100 * relative.value):.0f} % {word}" if isfinite(relative.low + relative.high) else f"{points} {word}"


def sureness(comparison: Comparison, label: str) -> str:
    """The interval of a change, in the unit of its size."""
    change = comparison.changes[label]
    relative = change.relative
    if isfinite(relative.low + relative.high):
        bounds = f"[{100 * relative.low:+.1f}, {100 * relative.high:+.1f}] %"
    else:
        bounds = f"[{change.absolute.low:+.2f}, {change.absolute.high:+.2f}] points"
    return f"95 % interval of the change {bounds}"


def more(comparison: Comparison) -> list[str]:
    """Seeds that would show the changes found of what is not told apart; nothing where that is not known."""
    unclear = [row for row in comparison.rows if row.difference and not row.difference.distinguishable]
    known = sorted((row.seeds_for_this, row.label) for row in unclear if row.seeds_for_this)
    counts = ", ".join(f"{label} {seeds:,}" for seeds, label in known)
    took = "To tell more apart would take about so many seeds, were the changes found the true ones"
    return [f"{took}: {counts}."] if known else []
