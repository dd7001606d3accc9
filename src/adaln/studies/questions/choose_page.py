"""A choice of starts in one sentence, and what it rests on: the race seed by seed, scores over steps, samples."""

from collections.abc import Mapping, Sequence
from math import isfinite, log1p
from pathlib import Path
from typing import Any

import numpy as np

from adaln.codec import canonical_json, encode, json_text
from adaln.config import model_name
from adaln.files import write_atomically
from adaln.models.own_config import OwnConfig
from adaln.report import (
    Block,
    Cell,
    Column,
    Facts,
    Marked,
    Measurement,
    Section,
    Table,
    write_page,
)
from adaln.sequential import Standing
from adaln.statistics import seeds_needed, t_interval
from adaln.studies.compare import evidence, fid_courses, measured_orders, role_blocks
from adaln.studies.comparison_tables import loss_sections, measures_table, start_with
from adaln.studies.judged import by_losses
from adaln.studies.questions.choose import Chosen
from adaln.studies.questions.choose_figures import (
    changes_figure,
    direction,
    loss_curves,
    means_over_steps,
    order_moved,
    order_over_steps,
    race_figure,
)
from adaln.studies.rows import ByLabel, badge, compare, plain
from adaln.studies.study import Outcome, Result
from adaln.views.orders import derived_and_measured
from adaln.views.scores import shown_name

USE = "use.json"
"""The scheme to use."""


def write_choice(chosen: Chosen, root: Path) -> Result:
    """Write `use.json` (the scheme to use, for `adaln train --scheme`), `result.json` and `index.html`."""
    folder, scheme = chosen.asked.folder, chosen.starts[chosen.advised]
    write_atomically(folder / USE, canonical_json(encode(scheme)))
    result = reduce_choice(chosen, root)
    write_page(result.page(chosen.asked.command), folder / "index.html")
    write_atomically(folder / "result.json", json_text(result.data) + "\n")
    return result


def reduce_choice(chosen: Chosen, root: Path) -> Result:
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
    use = chosen.asked.folder / USE
    advised = chosen.advised
    shown: list[Block] = [changes_figure(chosen, score), start_with(advised, str(use), outcomes[advised][0]), table]
    race = race_figure(chosen)
    sections = [
        Section("Result", shown),
        *evidence_of(chosen, outcomes),
        *([Section("Seed by seed", [race], folded=True)] if race else []),
        *([Section("How early", [stability], folded=True)] if stability else []),
    ]
    means = means_over_steps(chosen, outcomes)
    verdict = [*verdict_of(chosen, score), *order_moved(means, chosen.standing.more_is_better, score)]
    return Result(chosen.asked.title, verdict, table, sections, choices_of(chosen), numbers_of(chosen, score))


def evidence_of(chosen: Chosen, outcomes: ByLabel) -> list[Section]:
    """What happened on the way; all that is compared over the seeds that every start has."""
    shared, model = min(len(runs) for runs in outcomes.values()), chosen.asked.base.model
    if not chosen.asked.choice.rules.takes_samples or chosen.reference not in outcomes or shared < 2:
        return [Section("Over training", [loss_curves(outcomes), *role_blocks(outcomes)])]
    paired = [outcome for runs in outcomes.values() for outcome in runs[:shared]]
    comparison = compare(paired, chosen.reference)
    losses = by_losses(comparison.responses.by_label, chosen.reference)
    return [
        *loss_sections({f"By {judged.name}": judged for judged in losses}),
        *evidence(comparison, fid_courses(comparison.responses, chosen.reference)),
        Section(f"Other measures, over the first {shared} seeds of all", [measures_table(comparison)], folded=True),
        *([] if isinstance(model, OwnConfig) else [derived_and_measured(measured_orders(outcomes), model)]),
    ]


def score_name(chosen: Chosen, outcomes: Mapping[str, Sequence[Outcome]]) -> str:
    """What the starts are judged by, by the name that it has in these features."""
    rules = chosen.asked.choice.rules
    if not rules.takes_samples:
        return rules.by.replace("-loss", " loss")
    scores = next(iter(outcomes.values()))[0].scores()
    return shown_name(rules.by, scores[max(scores)])


def verdict_of(chosen: Chosen, score: str) -> list[str]:
    """The answer in one sentence, what is known of the other starts, and what it would take to know more."""
    standing, margin = chosen.standing, chosen.asked.choice.rules.margin
    at = " and ".join(f"{step:,}" for step in chosen.asked.choice.rules.at or (chosen.asked.base.steps,))
    lines = [_answer(chosen, f"{score} at {at} steps of this network")]
    if standing.equals:
        lines.append(f"Equal to {standing.leader} within {margin:.0%}: {', '.join(standing.equals)}.")
    behind = [f"{name} (after {seeds} seeds)" for name, (why, seeds) in standing.left.items() if why == "worse"]
    if behind:
        lines.append(f"Given up, since another start is better, by however little: {', '.join(behind)}.")
    if diverged := [name for name, (why, _) in standing.left.items() if why == "diverged"]:
        lines.append(f"Diverged: {', '.join(diverged)}.")
    if not standing.is_known:
        lines.append(_what_it_takes(chosen))
    return lines


def _answer(chosen: Chosen, judged_by: str) -> str:
    """Which start to use, or which one leads and by how much."""
    standing, reference = chosen.standing, chosen.reference
    leader, seeds, change = standing.leader, standing.seeds, standing.change(standing.leader)
    low, high = sorted((abs(change.low), abs(change.high)))
    margin = chosen.asked.choice.rules.margin
    is_better = leader != reference and standing.word(leader, margin) == "better"
    digits = 0 if abs(change.value) >= 0.1 else 1
    gain = f"{abs(change.value):.{digits}%} better than {reference} [{low:.{digits}%}, {high:.{digits}%}]"
    if not standing.is_known:
        beside = [name for name in standing.racing if name not in (leader, *standing.equals)]
        lead = f"{gain}, and not told apart from {' and '.join(beside)}" if is_better else "by less than can be told"
        return f"Not known yet after {seeds} seeds: {leader} has the best {judged_by}, {lead}."
    if is_better and high < margin:
        less = f"{gain}, less than the margin of {margin:.0%}"
        return f"{leader} or {reference}: {leader} is {less}, by {judged_by}, over {seeds} seeds."
    if is_better:
        return f"Use {leader}: {gain} by {judged_by}, over {seeds} seeds."
    if chosen.advised != leader:
        return f"Keep {reference}: no start is better by more than {margin:.0%} by {judged_by}, over {seeds} seeds."
    given_up = "given up as not the best"
    others = f"the others were {given_up}, or are equal" if standing.equals else f"every other start was {given_up}"
    return f"Use {leader}: {others}, by {judged_by}, over {seeds} seeds."


def _what_it_takes(chosen: Chosen) -> str:
    """How many seeds it would take to tell what is still open, by the differences and the noise found."""
    standing, parts = chosen.standing, []
    for name in standing.racing:
        if name in (standing.leader, *standing.equals):
            continue
        change, noise = _difference(chosen, name, standing.leader)
        least = max(abs(change), log1p(chosen.asked.choice.rules.margin))
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
    standing, reference = chosen.standing, chosen.reference
    columns = [
        Column("start"),
        Column("verdict", f"against {reference}"),
        Column(score, direction(chosen), ".4g"),
        Column("change", f"% of {reference}", "+.1f"),
        Column("seeds"),
        Column("race"),
    ]
    finite = {name: [value for value in values if isfinite(value)] for name, values in chosen.scores.items()}
    sign = -1 if standing.more_is_better else 1
    ranked = sorted(finite, key=lambda name: (name in standing.left, sign * np.mean(finite[name] or [sign * np.inf])))
    rows: list[list[Cell]] = []
    for name in ranked:
        value = Measurement.of(t_interval(finite[name])) if finite[name] else None
        cell: Cell = Marked(value) if name == standing.leader else value
        verdict: Cell = Marked("the reference", "muted") if name == reference else None
        change = None
        if name != reference and finite[name]:
            change = Measurement.of(standing.change(name), 100)
            verdict = badge(standing.word(name, chosen.asked.choice.rules.margin))
        rows.append([name, verdict, cell, change, len(finite[name]), _place(standing, name)])
    notes = [
        "Scores: means with 95 % t intervals. Changes: of geometric means over the same seeds; the intervals of all,"
        " and the verdicts, which say what they say, hold together at every look, 95 times in 100, however it ended."
        " Given up: another start is better, by a comparison of one side, which tells sooner than the interval of the"
        " change; the best of all is given up at most 5 times in 100."
    ]
    return Table(f"{len(chosen.starts)} starts by {score}", columns, rows, notes)


def _place(standing: Standing, name: str) -> str:
    if name in standing.left:
        why, seeds = standing.left[name]
        words = {"worse": "not the best", "diverged": "diverged"}
        return f"{words[why]}, given up after {seeds}"
    if name == standing.leader:
        return "leads"
    return f"equal to {standing.leader}" if name in standing.equals else "open"


def choices_of(chosen: Chosen) -> Facts:
    """Everything that decides the numbers."""
    base, choice = chosen.asked.base, chosen.asked.choice
    facts: dict[str, str | float | None] = {
        "model": model_name(base.model),
        "data": base.data.path,
        "steps": base.steps,
        "learning rate": base.optim.lr,
        "judged by": choice.rules.by,
        "margin": choice.rules.margin,
        "budget": str(chosen.asked.budget),
        "seeds planned": chosen.plan.seeds,
        "runs": sum(len(jobs) for jobs in chosen.jobs.values()),
    }
    return Facts("Every run", facts)


def numbers_of(chosen: Chosen, score: str) -> dict[str, Any]:
    """For machines."""
    standing, reference = chosen.standing, chosen.reference
    rows = []
    for name, scheme in chosen.starts.items():
        change = None if name == reference else standing.change(name)
        rows.append(
            {
                "start": name,
                "scheme": encode(scheme),
                "scores": list(chosen.scores[name]),
                "runs": [job.run_name for job in chosen.jobs[name]],
                "change": change and plain(change),
                "verdict": change and standing.word(name, chosen.asked.choice.rules.margin),
                "race": _place(standing, name),
            }
        )
    known = {"leader": standing.leader, "is_known": standing.is_known, "equals": list(standing.equals)}
    return {**known, "reference": reference, "score": score, "seeds_planned": chosen.plan.seeds, "rows": rows}
