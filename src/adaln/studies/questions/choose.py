"""Which start serves a network best: seeds are trained round by round until the answer is known or a budget is spent.

The state of a choice is its runs, and a plan that is fixed when it is first asked. Each round trains the next seed of
every start that is still in the race (`adaln.sequential`), so a choice that was killed goes on where it was, and one
that is asked again with a larger budget uses all that is there.
"""

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from adaln.analysis.fit import fit
from adaln.codec import encode, json_text, short_hash
from adaln.conditioning import Normal, Scheme, Start
from adaln.config import RunConfig, to_dict
from adaln.evaluation.checkpoints import check_scoring, reference_of, unmade
from adaln.files import reading, write_atomically
from adaln.metrics import METRICS
from adaln.progress import note, titled
from adaln.runs import Run
from adaln.sequential import FIRST_LOOK, Standing, detectable, race
from adaln.studies.choices import FITTED, Budget, Choice
from adaln.studies.questions.fitted import pilot_steps
from adaln.studies.rows import final_loss
from adaln.studies.run.costs import is_done, work
from adaln.studies.run.run_study import complete
from adaln.studies.run.workers import Launcher
from adaln.studies.scales import quarters, run_name
from adaln.studies.study import Job, Outcome

USUAL_NOISE = 0.03
"""Of paired differences of FID-like on the digits, relative to the score, over seeds (docs/results/quickstart)."""
MOST_SEEDS = 40
"""Planned at most: a change that takes more is smaller than any margin that matters."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is fixed when a choice is first asked, and what it has taken since; beside the results as plan.json."""

    seeds: int
    """Planned of each start: how the chance of a false answer is spread over the looks."""
    seconds: float = 0.0
    """Spent on rounds, on all cores or GPUs together."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """A choice as far as it has come."""

    choice: Choice
    base: RunConfig
    starts: Mapping[str, Scheme]
    """By name; the reference is `choice.base.name`."""
    jobs: Mapping[str, Sequence[Job]]
    """Of every start, a job for each seed that it was given."""
    scores: Mapping[str, Sequence[float]]
    """What was judged, for each of them; infinite where a run diverged."""
    standing: Standing
    plan: Plan
    budget: Budget


def starts_of(choice: Choice) -> dict[str, Scheme]:
    """What is trained, by name; one that says the same as another before it is noted and left out."""
    by_content: dict[str, Scheme] = {}
    for scheme in (*choice.schemes, *grid(choice)):
        content = short_hash(encode(replace(scheme, name="", note="")))
        if content in by_content:
            note(f"{scheme.name} starts as {by_content[content].name} does: counted once")
        by_content.setdefault(content, scheme)
    return {scheme.name: scheme for scheme in by_content.values()}


def grid(choice: Choice) -> list[Scheme]:
    """The reference with each std of the grid in each role that it is over, one role at a time."""

    def with_std(role: str, std: float) -> Scheme:
        start: dict[str, Any] = {role: Start(Normal(std))}
        return replace(choice.base, name=f"{choice.base.name}+{role}={std:g}", note="of a grid", **start)

    return [with_std(role, std) for role in choice.rules.over for std in choice.rules.stds]


def job_of(choice: Choice, base: RunConfig, scheme: Scheme, seed: int) -> Job:
    """One run of a start, scored at a quarter, half and all of its steps."""
    steps = quarters(base.steps, base.checkpoint_every)
    config = replace(
        base,
        name=run_name(base, scheme, base.seed + seed),
        scheme=scheme,
        seed=base.seed + seed,
        keep_at=tuple(sorted({*base.keep_at, *steps})),
    )
    score_at = steps if choice.rules.by != "loss" else ()
    return Job(scheme.name, config, score_at, choice.rules.sample, choice.rules.features, choice.rules.score_against)


def choice_folder(choice: Choice, base: RunConfig, root: Path) -> Path:
    """Where the plan and the results lie, whatever the budget."""
    return root / "choices" / f"{base.name}-{short_hash({'choice': encode(choice), 'base': to_dict(base)})}"


def run_choice(choice: Choice, base: RunConfig, budget: Budget, root: Path, launcher: Launcher, rate: float) -> Chosen:
    """Train rounds of seeds until the answer is known or the budget is spent; what is on disk is not done again.

    `rate` is the operations per second of all cores or GPUs together. A run that diverges takes its start out of the
    race. Raises `ValueError` before anything is trained for what does not fit or a budget that is too small,
    `Unfinished` naming runs that failed, `Stopped` when asked to stop.
    """
    starts = starts_of(choice)
    note(check_choice(choice, base, starts, budget, rate))
    file = choice_folder(choice, base, root) / "plan.json"
    plan, jobs, scores = (
        read_plan(file),
        {name: list[Job]() for name in starts},
        {name: list[float]() for name in starts},
    )

    def train(names: Sequence[str], seeds: Sequence[int]) -> float:
        asked = {name: [job_of(choice, base, starts[name], seed) for seed in seeds] for name in names}
        every, began = [job for of_start in asked.values() for job in of_start], time.monotonic()
        missing = sum(not is_done(job, root) for job in every)
        with titled(f"seed {seeds[-1] + 1} of {', '.join(names)}"):
            diverged = complete(every, root, launcher, tolerated="NonFinite")
        for name, of_start in asked.items():
            jobs.setdefault(name, []).extend(of_start)
            scores.setdefault(name, []).extend(judged(choice, job, root, diverged) for job in of_start)
        return time.monotonic() - began if missing else 0.0

    spent = train(list(starts), range(FIRST_LOOK))
    if choice.rules.fit and (fitted := fitted_start(choice, base, root)):
        starts[FITTED] = fitted
        spent += train([FITTED], range(FIRST_LOOK))
    plan = Plan(plan.seeds, plan.seconds + spent) if plan else Plan(planned(budget, base, jobs, spent), spent)
    while True:
        write_atomically(file, json_text(asdict(plan)) + "\n")
        standing = race(scores, choice.base.name, plan.seeds, choice.rules.margin, choice.rules.more_is_better)
        chosen = Chosen(choice, base, starts, jobs, scores, standing, plan, budget)
        if standing.is_known or not affords(chosen, root):
            return chosen
        took = train(standing.racing, [standing.seeds])
        plan = replace(plan, seconds=plan.seconds + took)


def check_choice(choice: Choice, base: RunConfig, starts: Mapping[str, Scheme], budget: Budget, rate: float) -> str:
    """What the budget is good for; `ValueError` for what would otherwise be found out after training has begun."""
    for scheme in starts.values():
        Run(Path(), job_of(choice, base, scheme, 0).config).check_fits()
    job, num_starts = job_of(choice, base, choice.base, 0), len(starts) + choice.rules.fit
    if num_starts < 2:
        raise ValueError(f"{' and '.join(starts)} alone; expected two or more starts to choose from")
    if choice.rules.by != "loss":
        check_judge(choice.rules.by, base, job)
    one = work([job], Run(Path(), base).spec)
    takes = num_starts * {"runs": 1.0, "operations": one, "seconds": one / rate}[budget.unit]
    most, is_bound = int(budget.amount / takes), budget.unit == "seconds"
    if most < FIRST_LOOK:
        least = f"{'at least ' * is_bound}{Budget(FIRST_LOOK * takes, budget.unit)}"
        raise ValueError(f"budget is {budget}; {FIRST_LOOK} seeds of {num_starts} starts take {least}")
    seeds = min(MOST_SEEDS, most)
    change = USUAL_NOISE * detectable(seeds, num_starts)
    return (
        f"{num_starts} starts, {budget}: {'at most ' * is_bound}{seeds} seeds each; at a noise between seeds of"
        f" {USUAL_NOISE:.0%}, as on the digits, that shows changes of {change:.0%} and more (four times in five)"
    )


def check_judge(by: str, base: RunConfig, job: Job) -> None:
    """`ValueError` for what cannot be scored, or not in the features that are seen."""
    run = unmade(base)
    check_scoring(run, job.scoring)
    extractor, reference = reference_of(run, job.scoring)
    if METRICS[by].needs != "probs" and getattr(reference, METRICS[by].needs) is None:
        raise ValueError(f"{extractor.name} features give no {by}; expected --by fid, or --features inception")


def fitted_start(choice: Choice, base: RunConfig, root: Path) -> Scheme | None:
    """The start that the reference's first run suggests at the pilot's end; None where none can be told."""
    job = job_of(choice, base, choice.base, 0)
    steps = pilot_steps(job.config)
    if steps is None:
        note(f"no start is fitted: runs of {base.steps:,} steps keep no checkpoint before the end")
        return None
    try:
        return fit(Outcome(job, job.run_in(root)).weights(steps)).scheme(FITTED)
    except ValueError as error:  # an early checkpoint's gates have not moved
        note(f"no start is fitted: {error}")
        return None


def judged(choice: Choice, job: Job, root: Path, diverged: set[str]) -> float:
    """The score or loss of a finished run; infinite where it diverged."""
    if "-".join(job.run_key) in diverged:
        return math.inf
    outcome = Outcome(job, job.run_in(root))
    return (
        final_loss(outcome) if choice.rules.by == "loss" else outcome.scores()[job.config.steps][choice.rules.by].value
    )


def read_plan(file: Path) -> Plan | None:
    """What was fixed when the choice was first asked, if it was."""
    if not file.exists():
        return None
    with reading(file, "the plan of a choice"):
        return Plan(**json.loads(file.read_text(encoding="utf-8")))


def planned(budget: Budget, base: RunConfig, jobs: Mapping[str, Sequence[Job]], seconds: float) -> int:
    """Seeds of each start that the budget is good for, now that it is known what the first ones took."""
    one = next(iter(jobs.values()))[0]
    seed = {"runs": 1.0, "operations": work([one], Run(Path(), base).spec), "seconds": seconds / FIRST_LOOK / len(jobs)}
    seeds = budget.amount / len(jobs) / max(seed[budget.unit], 1e-9)
    return max(FIRST_LOOK, min(MOST_SEEDS, int(seeds)))


def affords(chosen: Chosen, root: Path) -> bool:
    """Whether the next round is done already, or the budget is good for it by what the rounds so far have taken."""
    standing, budget = chosen.standing, chosen.budget
    following = [job_of(chosen.choice, chosen.base, chosen.starts[name], standing.seeds) for name in standing.racing]
    if all(is_done(job, root) for job in following):
        return True
    num_runs = sum(len(jobs) for jobs in chosen.jobs.values())
    one = chosen.plan.seconds / num_runs
    if budget.unit == "operations":
        one = work(following[:1], following[0].run_in(root).spec)
    share = 1.0 if budget.unit == "runs" else one
    spent = chosen.plan.seconds if budget.unit == "seconds" else num_runs * share
    return spent + len(following) * share <= budget.amount
