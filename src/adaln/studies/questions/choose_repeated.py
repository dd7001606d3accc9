"""A choice asked anew on disjoint sets of seeds: how often the answer is the same."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from adaln.codec import json_text
from adaln.files import write_atomically
from adaln.progress import titled
from adaln.report import Cell, Column, Measurement, Section, Table, write_report
from adaln.sequential import HORIZON
from adaln.studies.questions.choose import Chosen, run_choice
from adaln.studies.questions.choose_page import choices_of, numbers_of
from adaln.studies.questions.choose_question import MOST_SEEDS, Question
from adaln.studies.run.workers import Launcher
from adaln.studies.study import Result

APART = HORIZON * MOST_SEEDS
"""Between the first seeds of two sets: more than a choice ever looks at."""


def run_repeated(asked: Question, root: Path, launcher: Launcher, rate: float, times: int) -> list[Chosen]:
    """`run_choice` on so many sets of seeds, each with the whole budget."""
    sets = []
    for number in range(times):
        with titled(f"set {number + 1} of {times}"):
            base = replace(asked.base, seed=asked.base.seed + APART * number)
            of_set = Question.of(asked.choice, base, asked.budget, root, asked.command)
            sets.append(run_choice(of_set, root, launcher, rate, of_set.save))
    return sets


def write_repeated(sets: Sequence[Chosen]) -> tuple[Path, Result]:
    """Write `result.json` and the page, with its table as files; returns their folder and the result."""
    asked = sets[0].asked
    folder, result = asked.folder / f"{len(sets)}-sets", reduce_repeated(sets)
    write_report(result.page(asked.command), folder)
    write_atomically(folder / "result.json", json_text(result.data) + "\n")
    return folder, result


def reduce_repeated(sets: Sequence[Chosen]) -> Result:
    """How often the answer is the same, and the answer of every set."""
    first = sets[0].asked
    title = f"Is the start for {first.base.name} the same on {len(sets)} disjoint sets of seeds?"
    table = sets_table(sets)
    of_sets = [{"seed": one.asked.base.seed, **numbers_of(one, first.choice.rules.by)} for one in sets]
    numbers = {"sets": of_sets, **agreement(sets)}
    return Result(title, [verdict(sets)], table, [Section("Result", [table])], choices_of(sets[0]), numbers)


def agreement(sets: Sequence[Chosen]) -> dict[str, str | int]:
    """The answer that is given most often, by how many sets, in how many it is not known, in how many another.

    A set whose leader is equal to that start within the margin says the same, so two starts may be given as often.
    """
    known = [one.standing for one in sets if one.standing.is_known]
    counts = Counter(name for standing in known for name in (standing.leader, *standing.equals))
    same = max(counts.values(), default=0)
    answer = " or ".join(sorted(name for name, count in counts.items() if count == same))
    return {"answer": answer, "same": same, "not_known": len(sets) - len(known), "another": len(known) - same}


def verdict(sets: Sequence[Chosen]) -> str:
    """In a sentence."""
    counts, margin = agreement(sets), sets[0].asked.choice.rules.margin
    behind = [name for name in sets[0].standing.names if all(name in one.standing.left for one in sets)]
    also = f" Given up in all of them: {', '.join(behind)}." if behind else ""
    if not counts["answer"]:
        return f"In none of {len(sets)} sets of seeds the answer is known within {sets[0].asked.budget}.{also}"
    return (
        f"{counts['answer']} (within {margin:.0%}) in {counts['same']} of {len(sets)} sets of seeds; not known within"
        f" {sets[0].asked.budget} in {counts['not_known']}, another start in {counts['another']}.{also}"
    )


def sets_table(sets: Sequence[Chosen]) -> Table:
    """A row per set of seeds."""
    reference = sets[0].reference
    columns = [Column("first seed", format="d"), Column("answer"), Column("open or equal"), Column("seeds", format="d")]
    columns += [Column("runs", format="d"), Column("change of the leader", f"% of {reference}", "+.1f")]
    rows: list[list[Cell]] = []
    for one in sets:
        standing = one.standing
        beside = ", ".join(name for name in standing.racing if name != standing.leader)
        answer = standing.leader if standing.is_known else f"not known ({standing.leader} leads)"
        change = None if standing.leader == reference else Measurement.of(standing.change(standing.leader), 100)
        num_runs = sum(len(jobs) for jobs in one.jobs.values())
        rows.append([one.asked.base.seed, answer, beside or None, standing.seeds, num_runs, change])
    notes = [
        "Each row is what adaln choose says with that --seed. The interval of a change holds over all starts and looks"
        " of its row (95 %)."
    ]
    return Table(f"{len(sets)} sets of seeds", columns, rows, notes)
