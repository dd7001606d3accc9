"""Which start serves a network best: seeds are trained round by round until the answer is known or a budget is spent.

The state of a choice is its runs, and a plan that is fixed when it is first asked. Each round trains the next seed of
every start that is still in the race (`adaln.sequential`), so a choice that was killed goes on where it was, and one
that is asked again with a larger budget uses all that is there.
"""

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean

from adaln.analysis.fit import fit
from adaln.codec import decode, json_text
from adaln.conditioning import Scheme
from adaln.config import RunConfig
from adaln.evaluation.checkpoints import unmade
from adaln.files import reading, write_atomically
from adaln.progress import note, titled
from adaln.sequential import FEWEST, Standing, first_look, race
from adaln.studies.choices import FITTED, Budget, Choice
from adaln.studies.questions.choose_question import MOST_SEEDS, Question, check_choice, fits, starts_of
from adaln.studies.questions.fitted import pilot_steps
from adaln.studies.rows import final_loss
from adaln.studies.run.costs import is_done, work
from adaln.studies.run.run_study import complete
from adaln.studies.run.workers import Launcher
from adaln.studies.study import Job, Outcome

PLAN = "plan.json"


@dataclass(frozen=True, slots=True)
class Plan:
    """What is fixed when a choice is first asked, and what it has taken since; beside the results as `PLAN`."""

    seeds: int
    """Planned of each start: how the chance of a false answer is spread over the looks."""
    seconds: float = 0.0
    """Spent on rounds, on all cores or GPUs together."""
    diverged: tuple[str, ...] = ()
    """Runs whose numbers did not stay finite, by the names of their folders."""

    def __post_init__(self) -> None:
        if not FEWEST <= self.seeds <= MOST_SEEDS or not 0 <= self.seconds < math.inf:
            wanted = f"expected {FEWEST} to {MOST_SEEDS} seeds, seconds >= 0"
            raise ValueError(f"seeds is {self.seeds} and seconds {self.seconds}; {wanted}")


@dataclass(frozen=True, slots=True)
class Chosen:
    """A choice as far as it has come."""

    asked: Question
    starts: Mapping[str, Scheme]
    """By name; the reference is `reference`."""
    jobs: Mapping[str, Sequence[Job]]
    """Of every start, a job for each seed that it was given."""
    scores: Mapping[str, Sequence[float]]
    """What was judged, for each of them; infinite where a run diverged."""
    standing: Standing
    plan: Plan

    @property
    def reference(self) -> str:
        """The start that changes are told against."""
        return self.asked.choice.base.name

    @property
    def advised(self) -> str:
        """The start to use: the leader, unless the reference is known to be as good within the margin."""
        return self.reference if self.reference in self.standing.equals else self.standing.leader


def run_choice(asked: Question, root: Path, launcher: Launcher, rate: float, save: Callable[[], object]) -> Chosen:
    """Train rounds of seeds until the answer is known or the budget is spent; what is on disk is not done again.

    `rate` is the operations per second of all cores or GPUs together; `save` keeps what was asked, once it is known to
    fit. A run that diverges takes its start out of the race. Raises `ValueError` before anything is trained for what
    does not fit or a budget that is too small, `Unfinished` naming runs that failed, `Stopped` when asked to stop.
    """
    _, line = check_choice(asked, starts_of(asked.choice), rate)
    note(line)
    save()
    return play(asked, root, partial(complete, root=root, launcher=launcher, tolerated="NonFinite"))


def again(asked: Question, root: Path) -> Chosen:
    """A choice that is finished, from its runs; `ValueError` where some are missing. Nothing is made."""

    def check_done(jobs: Sequence[Job]) -> set[str]:
        if read_plan(asked.folder / PLAN) is None or not all(is_done(job, root) for job in jobs):
            raise ValueError(f"not all of its runs are there; go on with: {asked.command}")
        return set()

    return play(asked, root, check_done)


def play(asked: Question, root: Path, do: Callable[[Sequence[Job]], set[str]]) -> Chosen:
    """The rounds of `run_choice`; `do` sees to runs, and names those that diverged."""
    choice, base, budget, file = asked.choice, asked.base, asked.budget, asked.folder / PLAN
    starts, plan = starts_of(choice), read_plan(file)
    diverged = set(plan.diverged if plan else ())
    jobs, scores = {name: list[Job]() for name in starts}, {name: list[float]() for name in starts}

    def train(names: Sequence[str], seeds: Sequence[int]) -> float:
        wanted = {name: [asked.job(starts[name], seed) for seed in seeds] for name in names}
        every = [job for of_start in wanted.values() for job in of_start if job.run_name not in diverged]
        began = time.monotonic()
        missing = sum(not is_done(job, root) for job in every)
        with titled(f"seed {seeds[-1] + 1} of {', '.join(names)}"):
            diverged.update(do(every))
        for name, of_start in wanted.items():
            jobs.setdefault(name, []).extend(of_start)
            scores.setdefault(name, []).extend(judged(choice, job, root, diverged) for job in of_start)
        return time.monotonic() - began if missing else 0.0

    first = range(first_look(plan.seeds if plan else most_seeds(budget, len(starts) + fits(asked))))
    spent = train(list(starts), first)
    if fits(asked) and (fitted := fitted_start(asked, root, diverged)):
        starts[FITTED] = fitted
        spent += train([FITTED], first)
    if len(starts) == 1:
        raise ValueError(f"{choice.base.name} alone, and no start could be fitted; expected another --scheme")
    plan = replace(plan, seconds=plan.seconds + spent) if plan else Plan(planned(budget, base, jobs, spent), spent)
    while True:
        plan = replace(plan, diverged=tuple(sorted(diverged)))
        write_atomically(file, json_text(asdict(plan)) + "\n")
        standing = race(scores, choice.base.name, plan.seeds, choice.rules.margin, choice.rules.more_is_better)
        chosen = Chosen(asked, starts, jobs, scores, standing, plan)
        if standing.is_known or not affords(chosen, root):
            return chosen
        took = train(standing.racing, [standing.seeds])
        plan = replace(plan, seconds=plan.seconds + took)


def fitted_start(asked: Question, root: Path, diverged: set[str]) -> Scheme | None:
    """The start that the reference's first run suggests at the pilot's end; None where none can be told."""
    job = asked.job(asked.choice.base, 0)
    if job.run_name in diverged:
        note(f"no start is fitted: the first run of {asked.choice.base.name} diverged")
        return None
    try:
        return fit(Outcome(job, job.run_in(root)).weights(pilot_steps(job.config))).scheme(FITTED)
    except ValueError as error:  # an early checkpoint's gates have not moved
        note(f"no start is fitted: {error}")
        return None


def judged(choice: Choice, job: Job, root: Path, diverged: set[str]) -> float:
    """The score or loss of a finished run, over several steps their geometric mean; infinite where it diverged.

    `ValueError` for a score of 0, which is no ratio.
    """
    if job.run_name in diverged:
        return math.inf
    outcome, by = Outcome(job, job.run_in(root)), choice.rules.by
    values = [judged_at(outcome, by, step) for step in choice.rules.at or (job.config.steps,)]
    if min(values) <= 0:
        raise ValueError(
            f"{by} of {outcome.run.path.name} is {min(values):g}; starts are compared by ratios: give another --by"
        )
    return values[0] if len(values) == 1 else math.exp(fmean(map(math.log, values)))


def judged_at(outcome: Outcome, by: str, step: int) -> float:
    """One score or loss of a checkpoint."""
    if by == "loss":
        return final_loss(outcome, step)
    return (
        outcome.held_out_losses(step)["ema"].mean.value if by == "held-out-loss" else outcome.scores()[step][by].value
    )


def read_plan(file: Path) -> Plan | None:
    """What was fixed when the choice was first asked, if it was."""
    if not file.exists():
        return None
    with reading(file, "the plan of a choice"):
        return decode(Plan, json.loads(file.read_text(encoding="utf-8")))


def most_seeds(budget: Budget, num_starts: int) -> int:
    """Of every start, by a budget in runs."""
    return int(budget.amount / num_starts) if budget.unit == "runs" else MOST_SEEDS


def planned(budget: Budget, base: RunConfig, jobs: Mapping[str, Sequence[Job]], seconds: float) -> int:
    """Seeds of each start that the budget is good for, now that it is known what the first ones took."""
    first = next(iter(jobs.values()))
    one = {
        "runs": 1.0,
        "operations": work(first[:1], unmade(base).spec),
        "seconds": seconds / len(first) / len(jobs),
    }
    seeds = budget.amount / len(jobs) / max(one[budget.unit], 1e-9)
    return max(len(first), min(MOST_SEEDS, int(seeds)))


def affords(chosen: Chosen, root: Path) -> bool:
    """Whether the next round is done already, or the budget is good for it by what the rounds so far have taken."""
    standing, budget = chosen.standing, chosen.asked.budget
    following = [chosen.asked.job(chosen.starts[name], standing.seeds) for name in standing.racing]
    if all(is_done(job, root) for job in following):
        return True
    num_runs = sum(len(jobs) for jobs in chosen.jobs.values())
    one = chosen.plan.seconds / num_runs
    if budget.unit == "operations":
        one = work(following[:1], following[0].run_in(root).spec)
    share = 1.0 if budget.unit == "runs" else one
    spent = chosen.plan.seconds if budget.unit == "seconds" else num_runs * share
    return spent + len(following) * share <= budget.amount
