"""The one sentence that a study's page begins with: the answer, how sure it is, and what it would take to know more."""

from math import isfinite

from adaln.statistics import Difference
from adaln.studies.rows import Comparison, data_name


def answer(comparison: Comparison) -> str:
    """Which scheme ends best, or that none is better than the reference; with how many seeds more could be said."""
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
    return f"{sentence}{more(comparison)}."


def size(change: Difference) -> str:
    """`"18 % better"`; in points where the relative change has no bounds."""
    relative, word = change.relative, "better" if change.absolute.value < 0 else "worse"
    points = f"{abs(change.absolute.value):.2f} points"
    return f"{abs(100 * relative.value):.0f} % {word}" if isfinite(relative.low + relative.high) else f"{points} {word}"


def sureness(comparison: Comparison, label: str) -> str:
    """The interval of a change, in the unit of its size."""
    change, count = comparison.changes[label], len(comparison.changes)
    relative = change.relative
    if isfinite(relative.low + relative.high):
        bounds = f"[{100 * relative.low:+.1f}, {100 * relative.high:+.1f}] %"
    else:
        bounds = f"[{change.absolute.low:+.2f}, {change.absolute.high:+.2f}] points"
    return f"95 % interval of the change {bounds}" + (f" (for all {count} schemes together)" if count > 1 else "")


def more(comparison: Comparison) -> str:
    """Seeds that would show the changes found of what is not told apart, else one of 2 %."""
    rows = [row for row in comparison.rows if row.difference]
    unclear = {row.label: row.seeds_for_this for row in rows if not comparison.changes[row.label].distinguishable}
    known = sorted((seeds, label) for label, seeds in unclear.items() if seeds)
    if known:
        counts = ", ".join(f"{label} {seeds:,}" for seeds, label in known)
        return f"; to tell more apart would take about so many seeds, were the changes found the true ones: {counts}"
    small = max((row.seeds_for_2_percent or 0 for row in rows), default=0)
    return f"; to see changes of 2 % would take about {small:,} seeds" if small and not unclear else ""
