"""Reduces runs of several schemes over the same seeds to one table, one verdict and one page."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from statistics import fmean
from typing import Any

from adaln.analysis import RoleRecord
from adaln.metrics import Scores
from adaln.report import Block, Page, Section
from adaln.statistics import Difference, paired_differences, seeds_needed, t_interval
from adaln.studies.comparison.figures import SHOWN_STEPS, curves, gap_figures, grids
from adaln.studies.comparison.how_made import data_name, how_made
from adaln.studies.comparison.tables import course_table, measures_table, published_table, result_table, seeds_table
from adaln.studies.comparison.verdicts import verdict_text
from adaln.studies.plan import Outcome, Result
from adaln.studies.published import PublishedTable
from adaln.studies.time_to_quality import Course, common_steps, courses
from adaln.views.figures import role_histograms
from adaln.views.orders import derived_and_measured, subject_of_run
from adaln.views.scores import shown_name

REFERENCE = "adaln-zero"
LOSS_TAIL = 0.1
"""The reported loss is the mean over the last tenth of the steps."""
ADVISED_CHANGE = 0.02
"""Seeds are advised for seeing a change of this size, relative to the reference."""
Scored = Mapping[str, Sequence[Mapping[int, Scores]]]
"""Label -> for each seed scores by step."""


def compare_schemes(
    title: str,
    command: str,
    outcomes: Sequence[Outcome],
    *,
    reference: str = REFERENCE,
    published: PublishedTable | None = None,
) -> Result:
    """The answer to "which scheme?", with what it rests on; rows are labels, compared with the row `reference`.

    Raises ValueError, naming them, where a label lacks seeds that the reference has: pairs are never made up.
    """
    by_scheme = group(outcomes)
    require_same_seeds(by_scheme, reference)
    scored = {name: [outcome.scores() for outcome in runs] for name, runs in by_scheme.items()}
    rows, beside = summarise(by_scheme, scored, reference), fid_courses(scored, reference)
    orders = {name: subject_of_run(runs[0].run).order(runs[0].run.config.scheme) for name, runs in by_scheme.items()}
    first, one = outcomes[0], final(scored[reference][0])
    score = shown_name("fid", one)
    verdict = verdict_text(rows, beside, reference, score)
    table = result_table(title, rows, reference, one)
    quoted = [published_table(rows, reference, published, one, data_name(first))] if published else []
    sections = [
        Section("Result", [table, *quoted, seeds_table(rows), measures_table(rows, one)]),
        *evidence(by_scheme, beside, reference, score),
        derived_and_measured(orders, first.job.config.model),
        how_made(command, first),
    ]
    data = {
        "title": title,
        "reference": reference,
        "seeds": [outcome.job.config.seed for outcome in by_scheme[reference]],
        "score": score,
        "rows": rows,
        "over_steps": {name: _course(course) for name, course in beside.items()},
        "verdict": verdict,
        "first_moves_at_iteration": {name: order.first for name, order in orders.items()},
        "runs": run_names(by_scheme),
    }
    return Result(data, Page(title, verdict, sections), table)


def group(outcomes: Sequence[Outcome]) -> dict[str, list[Outcome]]:
    """Outcomes by label, seeds in ascending order."""
    by_scheme: dict[str, list[Outcome]] = {}
    for outcome in sorted(outcomes, key=lambda outcome: outcome.job.config.seed):
        by_scheme.setdefault(outcome.job.label, []).append(outcome)
    return {label: by_scheme[label] for label in dict.fromkeys(outcome.job.label for outcome in outcomes)}


def require_same_seeds(by_scheme: Mapping[str, Sequence[Outcome]], reference: str) -> None:
    """ValueError where seeds do not pair up, naming the rows and the seeds that one of the two lacks."""
    seeds = {name: [outcome.job.config.seed for outcome in runs] for name, runs in by_scheme.items()}
    wrong = [
        f"{name!r} has {found}"
        for name, found in seeds.items()
        if found != seeds[reference] or len(set(found)) < len(found)
    ]
    if wrong:
        raise ValueError(f"pairs need the seeds of {reference!r}, {seeds[reference]}, once each: {'; '.join(wrong)}")


def run_names(by_scheme: Mapping[str, Sequence[Outcome]]) -> dict[str, list[str]]:
    """Which folders the numbers come from."""
    return {name: [outcome.run.path.name for outcome in outcomes] for name, outcomes in by_scheme.items()}


def final_loss(outcome: Outcome) -> float:
    """Mean training loss over the last tenth of the steps."""
    steps = outcome.job.config.steps
    return fmean(row["loss"] for row in outcome.losses() if row["step"] > (1 - LOSS_TAIL) * steps)


def final(scores: Mapping[int, Scores]) -> Scores:
    """Scores of the last checkpoint."""
    return scores[max(scores)]


def fid_courses(scored: Scored, reference: str) -> dict[str, Course]:
    """Every scheme beside the reference over the scored steps; none for a single step or a single seed."""
    fid = {
        name: [{step: scores["fid"].value for step, scores in seed.items()} for seed in seeds]
        for name, seeds in scored.items()
    }
    return courses(fid, reference) if len(common_steps(fid)) > 1 and len(fid[reference]) > 1 else {}


def summarise(by_scheme: Mapping[str, Sequence[Outcome]], scored: Scored, reference: str) -> list[dict[str, Any]]:
    """One plain row per scheme: parameters, loss and scores over seeds, and the difference from the reference."""
    fid = {name: [final(seed)["fid"].value for seed in seeds] for name, seeds in scored.items()}
    found = paired_differences({name: values for name, values in fid.items() if name != reference}, fid[reference])
    others = [metric for metric in final(scored[reference][0]).scores if metric != "fid"]
    return [
        {
            "scheme": name,
            "parameters": outcomes[0].run.manifest["parameters"]["trained"],
            "loss": _over_seeds([final_loss(outcome) for outcome in outcomes]),
            "fid": {**_over_seeds(fid[name]), "per_seed": fid[name]},
            **{metric: _over_seeds([final(seed)[metric].value for seed in scored[name]]) for metric in others},
            "difference": _difference(found[name], fmean(fid[reference]), len(found)) if name in found else None,
        }
        for name, outcomes in by_scheme.items()
    ]


def _over_seeds(values: Sequence[float]) -> dict[str, Any]:
    interval = t_interval(values)
    return {"mean": interval.value, "low": interval.low, "high": interval.high, "seeds": len(values)}


def _difference(found: Difference, base: float, num_comparisons: int) -> dict[str, Any]:
    return {
        "absolute": asdict(found.absolute),
        "relative": asdict(found.relative),
        "noise": found.noise,
        "p_value": found.p_value,
        "distinguishable": found.distinguishable,
        "seeds_for_2_percent": seeds_needed(ADVISED_CHANGE * base, found.noise, num_comparisons),
        "seeds_for_this": seeds_needed(found.absolute.value, found.noise, num_comparisons),
    }


def _course(course: Course) -> dict[str, Any]:
    return {
        "verdict": course.verdict,
        "difference_at": {step: asdict(gap) for step, gap in course.gaps.items()},
        "as_good_from_step": [[at.low, at.high] for at in course.reached],
        "speed_up": asdict(course.speed_up) if course.speed_up else None,
    }


def evidence(
    by_scheme: dict[str, list[Outcome]], beside: Mapping[str, Course], reference: str, score: str
) -> list[Section]:
    """What happened on the way: curves, every scheme beside the reference, samples, distributions."""
    over_steps: list[Block] = [course_table(beside, reference, score), *gap_figures(beside, reference, score)]
    return [
        Section("Over training", curves(by_scheme)),
        *([Section("Time to quality", over_steps)] if beside else []),
        Section("Samples", grids(by_scheme)),
        Section("Gate, scale and shift over training", role_blocks(by_scheme)),
    ]


def role_blocks(by_scheme: Mapping[str, Sequence[Outcome]]) -> list[Block]:
    """Distributions of gate, scale and shift of every scheme's first seed, and what the first updates left of them."""
    first = next(iter(by_scheme.values()))[0]
    config = first.job.config
    recordings = {name: runs[0].recording() for name, runs in by_scheme.items()}
    shown = sorted({*SHOWN_STEPS, config.steps})
    return [*forgetting(recordings, config.optim.lr), *role_histograms(recordings, shown, config.seed)]


def forgetting(recordings: dict[str, list[RoleRecord]], lr: float) -> list[str]:
    """How much of a small random start is left after two updates, in words; nothing where no scheme starts so."""
    lines = []
    for name, recording in recordings.items():
        stds = {r.step: r.moments.std for r in recording if r.group.name == "gate" and r.group.depth is None}
        start, soon = stds.get(0), stds.get(2)
        if start and soon and start < lr:
            lines.append(
                f"Adam moves a weight by up to the learning rate, {lr:g}, in its first step. {name} starts its gates"
                f" with std {start:.1e}; after two updates it is {soon:.1e}: at this learning rate such a start is all"
                " but overwritten at once. The paper trains at 1e-4."
            )
    return lines
