"""A choice of starts in one sentence, and what it rests on: the race seed by seed, scores over steps, samples."""

from collections.abc import Mapping, Sequence
from math import isfinite, log1p
from pathlib import Path
from typing import Any

import numpy as np

from adaln.codec import canonical_json, encode, json_text
from adaln.config import model_name
from adaln.files import write_atomically
from adaln.report import (
    Block,
    Cell,
    Column,
    Command,
    Facts,
    Marked,
    Measurement,
    Section,
    Table,
    write_page,
)
from adaln.sequential import Standing
from adaln.statistics import seeds_needed, t_interval
from adaln.studies.compare import grids
from adaln.studies.questions.choose import Chosen, choice_folder
from adaln.studies.questions.choose_figures import changes_figure, curves, direction, order_over_steps, race_figures
from adaln.studies.rows import plain
from adaln.studies.study import Outcome, Result
from adaln.views.scores import shown_name


def write_choice(chosen: Chosen, root: Path, command: str) -> tuple[Path, Path, Result]:
    """Write `use.json` (the leader's scheme, for `adaln train --scheme`), `result.json` and `index.html`.

    Returns their folder, the scheme's file and the result.
    """
    folder = choice_folder(chosen.choice, chosen.base, root)
    scheme = chosen.starts[chosen.standing.leader]
    file = write_atomically(folder / "use.json", canonical_json(encode(scheme)))
    result = reduce_choice(chosen, root, file)
    write_page(result.page(command), folder / "index.html")
    write_atomically(folder / "result.json", json_text(result.data) + "\n")
    return folder, file, result


def reduce_choice(chosen: Chosen, root: Path, scheme_file: Path) -> Result:
    """The answer, the table of all starts, and what they rest on."""
    outcomes = {
        name: [
            Outcome(job, job.run_in(root))
            for job, score in zip(jobs, chosen.scores[name], strict=True)
            if isfinite(score)
        ]
        for name, jobs in chosen.jobs.items()
    }
    outcomes = {name: runs for name, runs in outcomes.items() if runs}
    score = score_name(chosen, outcomes)
    table, stability = choice_table(chosen, score), order_over_steps(chosen, outcomes)
    use = Command(f"adaln train PRESET --scheme {scheme_file}")
    shown: list[Block] = [table, changes_figure(chosen, score), f"To train with {chosen.standing.leader}:", use]
    sections = [
        Section("Result", shown),
        Section("Seed by seed", race_figures(chosen)),
        Section("Over training", [*(curves(chosen, outcomes, score)), *([stability] if stability else [])]),
    ]
    if chosen.choice.rules.by != "loss":
        sections.append(Section("Samples", [*grids(outcomes)]))
    title = f"Which start for {chosen.base.name}?"
    return Result(title, verdict_of(chosen, score), table, sections, choices_of(chosen), numbers_of(chosen, score))


def score_name(chosen: Chosen, outcomes: Mapping[str, Sequence[Outcome]]) -> str:
    """What the starts are judged by, by the name that it has in these features."""
    if chosen.choice.rules.by == "loss":
        return "loss"
    scores = next(iter(outcomes.values()))[0].scores()
    return shown_name(chosen.choice.rules.by, scores[max(scores)])


def verdict_of(chosen: Chosen, score: str) -> list[str]:
    """The answer in one sentence, what is known of the other starts, and what it would take to know more."""
    standing, margin = chosen.standing, chosen.choice.rules.margin
    lines = [_answer(chosen, f"{score} at {chosen.base.steps:,} steps of this network")]
    if standing.equals:
        lines.append(f"Equal to {standing.leader} within {margin:.0%}: {', '.join(standing.equals)}.")
    behind = [f"{name} (after {seeds} seeds)" for name, (why, seeds) in standing.left.items() if why == "worse"]
    if behind:
        lines.append(f"Given up, since another start is better: {', '.join(behind)}.")
    if diverged := [name for name, (why, _) in standing.left.items() if why == "diverged"]:
        lines.append(f"Diverged: {', '.join(diverged)}.")
    if not standing.is_known:
        lines.append(_what_it_takes(chosen))
    return lines


def _answer(chosen: Chosen, judged_by: str) -> str:
    """Which start to use, or which one leads."""
    standing, reference = chosen.standing, chosen.choice.base.name
    leader, seeds, change = standing.leader, standing.seeds, standing.change(standing.leader)
    if not standing.is_known:
        return f"Not known yet after {seeds} seeds: {leader} has the best {judged_by}, by less than can be told."
    if leader != reference and standing.word(leader, chosen.choice.rules.margin) == "better":
        low, high = sorted((abs(change.low), abs(change.high)))
        gain = f"{abs(change.value):.0%} better than {reference} [{low:.0%}, {high:.0%}]"
        return f"Use {leader}: {gain} by {judged_by}, over {seeds} seeds."
    others = "the others are worse or equal" if standing.equals else "every other start is worse"
    return f"Use {leader}: {others} by {judged_by}, over {seeds} seeds."


def _what_it_takes(chosen: Chosen) -> str:
    """How many seeds it would take to tell what is still open, by the differences and the noise found."""
    standing, parts = chosen.standing, []
    for name in standing.racing:
        if name in (standing.leader, *standing.equals):
            continue
        change, noise = _difference(chosen, name, standing.leader)
        least = max(abs(change), log1p(chosen.choice.rules.margin))
        seeds = seeds_needed(least, noise, len(chosen.starts) - 1)
        parts.append(f"{name} (about {seeds:,} seeds)" if seeds else name)
    return (
        f"Open against {standing.leader}, with the seeds that telling them apart would take at the noise found:"
        f" {', '.join(parts)}. With a larger --budget it goes on from here."
    )


def _difference(chosen: Chosen, name: str, other: str) -> tuple[float, float]:
    """Mean and spread over seeds of the difference of logarithms."""
    seeds = chosen.standing.seeds
    logs = np.log([chosen.scores[name][:seeds], chosen.scores[other][:seeds]])
    differences = logs[0] - logs[1]
    return float(differences.mean()), float(differences.std(ddof=1))


def choice_table(chosen: Chosen, score: str) -> Table:
    """A row per start, the best first."""
    standing, reference = chosen.standing, chosen.choice.base.name
    columns = [
        Column("start"),
        Column("seeds"),
        Column(score, direction(chosen), ".4g"),
        Column("change", f"% of {reference}", "+.1f"),
        Column("verdict", f"against {reference}"),
        Column("race"),
    ]
    finite = {name: [value for value in values if isfinite(value)] for name, values in chosen.scores.items()}
    sign = -1 if standing.more_is_better else 1
    ranked = sorted(finite, key=lambda name: (name in standing.left, sign * np.mean(finite[name] or [sign * np.inf])))
    rows: list[list[Cell]] = []
    for name in ranked:
        value = Measurement.of(t_interval(finite[name])) if finite[name] else None
        cell: Cell = Marked(value) if name == standing.leader else value
        changed: list[Cell] = [None, None]
        if name != reference and finite[name]:
            changed = [Measurement.of(standing.change(name), 100), standing.word(name, chosen.choice.rules.margin)]
        rows.append([name, len(finite[name]), cell, *changed, _place(standing, name)])
    notes = [
        "Scores: means with 95 % t intervals. Changes: of geometric means over the same seeds; the intervals of all,"
        " and the verdicts, which say what they say, hold together at every look, 95 times in 100, however it ended."
        " Given up: another start is better; the best of all is given up at most 5 times in 100."
    ]
    return Table(f"{len(chosen.starts)} starts by {score}", columns, rows, notes)


def _place(standing: Standing, name: str) -> str:
    if name in standing.left:
        why, seeds = standing.left[name]
        return f"{why}, given up after {seeds}"
    if name == standing.leader:
        return "leads"
    return f"equal to {standing.leader}" if name in standing.equals else "open"


def choices_of(chosen: Chosen) -> Facts:
    """Everything that decides the numbers."""
    base, choice = chosen.base, chosen.choice
    facts: dict[str, str | float | None] = {
        "model": model_name(base.model),
        "data": base.data.path,
        "steps": base.steps,
        "learning rate": base.optim.lr,
        "judged by": choice.rules.by,
        "margin": choice.rules.margin,
        "budget": str(chosen.budget),
        "seeds planned": chosen.plan.seeds,
        "runs": sum(len(jobs) for jobs in chosen.jobs.values()),
    }
    return Facts("Every run", facts)


def numbers_of(chosen: Chosen, score: str) -> dict[str, Any]:
    """For machines."""
    standing, reference = chosen.standing, chosen.choice.base.name
    rows = []
    for name, scheme in chosen.starts.items():
        change = None if name == reference else standing.change(name)
        rows.append(
            {
                "start": name,
                "scheme": encode(scheme),
                "scores": list(chosen.scores[name]),
                "runs": ["-".join(job.run_key) for job in chosen.jobs[name]],
                "change": change and plain(change),
                "verdict": change and standing.word(name, chosen.choice.rules.margin),
                "race": _place(standing, name),
            }
        )
    known = {"leader": standing.leader, "is_known": standing.is_known, "equals": list(standing.equals)}
    return {**known, "reference": reference, "score": score, "seeds_planned": chosen.plan.seeds, "rows": rows}
