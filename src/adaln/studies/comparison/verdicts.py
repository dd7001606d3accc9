"""What a comparison's numbers say in plain words, and what they do not."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from adaln.studies.time_to_quality import NO_DIFFERENCE, Course

AT_THE_END_ONLY = "different at the end, though not by the stricter test of all steps together"


def verdict_text(
    rows: Sequence[dict[str, Any]], courses: Mapping[str, Course], reference: str, score: str
) -> list[str]:
    """A line for each scheme that differs, one for those that may not, then the course of training, then advice."""
    others = [row for row in rows if row["difference"]]
    clear = [_clear(row, reference, score) for row in others if row["difference"]["distinguishable"]]
    unclear = [row for row in others if not row["difference"]["distinguishable"]]
    seen = {row["scheme"] for row in others if row["difference"]["distinguishable"]}
    over_steps = [_over_steps(courses, seen, reference, score)] if courses else []
    return [*clear, *([_unclear(unclear, reference, score)] if unclear else []), *over_steps, *_advice(others)]


def verdict_word(difference: Mapping[str, Any]) -> str:
    """Better, worse or not distinguishable, of a score of which less is better."""
    if not difference["distinguishable"]:
        return "not distinguishable"
    return "better" if difference["absolute"]["value"] < 0 else "worse"


def count_text(seeds: int | None) -> str:
    """A number of seeds, where there is one."""
    return "–" if seeds is None else f"{seeds:,}"


def _clear(row: dict[str, Any], reference: str, score: str) -> str:
    change = row["difference"]
    return (
        f"{row['scheme']} is {verdict_word(change)} than {reference}: {score} {change['absolute']['value']:+.2f} points"
        f" ({100 * change['relative']['value']:+.1f} % relative) over {row['fid']['seeds']} seeds."
    )


def _unclear(rows: Sequence[dict[str, Any]], reference: str, score: str) -> str:
    return (
        f"Not distinguishable from {reference} by {score} at this size, over {rows[0]['fid']['seeds']} seeds:"
        f" {'; '.join(row['scheme'] for row in rows)}."
        " A difference smaller than the intervals in the table may exist; these runs cannot show it."
    )


def _over_steps(courses: Mapping[str, Course], seen: Collection[str], reference: str, score: str) -> str:
    """The courses; a scheme that is `seen` to differ at the end may not do so under the test of all steps together."""
    alike: dict[str, list[str]] = {}
    for name, course in courses.items():
        quiet = name in seen and course.verdict == NO_DIFFERENCE
        alike.setdefault(AT_THE_END_ONLY if quiet else course.verdict, []).append(name)
    told = "; ".join(f"{verdict} ({'; '.join(names)})" for verdict, names in alike.items())
    return f"Over training, by {score} against {reference}: {told}."


def _advice(rows: Sequence[dict[str, Any]]) -> list[str]:
    """How many seeds it would take; nothing where the noise is not known."""
    small = sorted({row["difference"]["seeds_for_2_percent"] or 0 for row in rows} - {0})
    if not small:
        return []
    one = small[0] == small[-1]
    span = f"{small[0]:,} seeds" if one else f"{small[0]:,} to {small[-1]:,} seeds, depending on the scheme"
    open_ones = [row for row in rows if not row["difference"]["distinguishable"]]
    these = "; ".join(f"{row['scheme']} {count_text(row['difference']['seeds_for_this'])}" for row in open_ones)
    line = f"To see a change of 2 % at the noise of these runs you need about {span}"
    return [f"{line}; to see the changes found here: {these}." if these else f"{line}."]
