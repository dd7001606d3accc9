"""Does the jobs of a study, wherever a launcher takes them: resumable, and the same numbers whatever the launcher.

A job's work is a chain of finished pieces on disk (checkpoints, score files), so a study may be killed at any moment;
started again, it does only what is missing. One failed job never loses the others.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from adaln.analysis.recorder import Recorder
from adaln.codec import json_text, short_hash
from adaln.evaluation.checkpoints import is_scored, reference_of, score, unmade
from adaln.evaluation.held_out import take_losses
from adaln.files import remove_temporaries, write_atomically
from adaln.progress import Progress, progress, showing
from adaln.registry import with_registered
from adaln.report import write_page
from adaln.runs import Run
from adaln.studies.protocol import check_is_papers
from adaln.studies.run.costs import image_work, is_done, step_work, work, work_done
from adaln.studies.run.workers import Advance, Failure, Launcher, Task, terminated_as_interrupted
from adaln.studies.study import Job, Plan, Result, by_run, outcomes
from adaln.training import Stopped, train

RUNS = "runs"
MOST_NAMED = 3
"""How many of the runs that failed are named in the one line of it."""


class Unfinished(ValueError):
    """Some runs failed; the message names them, and the others are kept."""


def run_study(plan: Plan, root: Path, launcher: Launcher) -> tuple[Path, Result]:
    """Do what is missing, reduce, and write `result.json` and `index.html`; returns the plan's folder and the result.

    `adaln report FOLDER` writes the pictures as files as well. Raises `Stopped` when asked to stop, `Unfinished`
    naming the runs that failed (finished ones are kept).
    """
    check_is_papers(plan)
    complete(plan.jobs(), root, launcher)
    complete(plan.further_jobs(root), root, launcher)
    folder, result = plan.folder(root), reduce_study(plan, root)
    remove_temporaries(folder)
    write_page(plan.page(result), folder / "index.html")
    write_atomically(folder / "result.json", json_text(result.data) + "\n")
    write_atomically(folder / "study.json", json_text(plan.to_json()) + "\n")
    return folder, result


def reduce_study(plan: Plan, root: Path) -> Result:
    """The result of a plan whose jobs are all done."""
    return plan.study.reduce(outcomes([*plan.jobs(), *plan.further_jobs(root)], root))


def complete(jobs: Sequence[Job], root: Path, launcher: Launcher, tolerated: str = "") -> set[str]:
    """Do all jobs; returns the runs that failed with the `tolerated` exception, `Unfinished` names all other ones."""
    failures = execute(jobs, root, launcher)
    broken = {name: failure for name, failure in failures.items() if failure.kind != tolerated}
    if broken:
        raise Unfinished(
            f"{len(broken)} of {len(by_run(jobs))} runs failed, the others are kept: {failures_text(broken)}"
        )
    return set(failures)


def execute(jobs: Sequence[Job], root: Path, launcher: Launcher) -> dict[str, Failure]:
    """Do all jobs, and return what failed, by the name of its run.

    Raises `ValueError` before anything is trained where a run does not fit or a reference cannot be had, `Stopped` when
    asked to stop.
    """
    if not jobs:
        return {}
    runs = by_run(jobs)
    for of_run in runs.values():
        Run.create(of_run[-1].config, root)
    missing = {name: of_run for name, of_run in runs.items() if not all(is_done(job, root) for job in of_run)}
    watch = _watch(runs, root)
    try:
        with terminated_as_interrupted():
            watch("references", 0.0)
            lacking = launcher.run(references(missing.values()), partial(watch, "references"))
            if lacking:
                raise ValueError(f"nothing to score against: {failures_text(lacking)}")
            watch(RUNS, 0.0)
            tasks = {name: with_registered(partial(perform, of_run, root)) for name, of_run in missing.items()}
            failures = launcher.run(tasks, partial(watch, RUNS))
    except Stopped:
        raise
    except KeyboardInterrupt:
        raise Stopped("stopped; what is finished is kept") from None
    wanting = [name for name, of_run in missing.items() if not all(is_done(job, root) for job in of_run)]
    return {name: failures.get(name, Failure("Unfinished", "not all of it is on disk")) for name in wanting}


def references(runs: Collection[Sequence[Job]]) -> dict[str, Task]:
    """What makes the feature networks and statistics that jobs share: each once, before they are needed everywhere."""
    scored = (job for of_run in runs for job in of_run if job.score_at)
    wanted = {short_hash(asdict(job.config.data) | {"of": [job.features, job.reference]}): job for job in scored}
    return {f"reference-{name}": with_registered(partial(prepare, job)) for name, job in wanted.items()}


def prepare(job: Job, device: str, advance: Advance) -> None:
    """Make the feature network and the reference statistics of a job."""
    reference_of(unmade(job.config, device), job.scoring)


def perform(jobs: Sequence[Job], root: Path, device: str, advance: Advance) -> None:
    """Train to each job's steps, then sample and score the checkpoints it asks for; skips what is on disk."""
    for job in jobs:
        run = Run.create(job.config, root, device=device)
        name, spec = run.path.name, run.spec
        costs = {f"train {name}": step_work(job, spec), f"sample {name}": image_work(job, spec)}
        with showing(as_work(costs, advance)):
            if max(run.steps_saved(), default=0) < job.config.steps:
                train(run, [Recorder(run.path / "analysis" / "roles.jsonl")])
            for step in job.score_at:
                if not is_scored(run, job.scoring, step):
                    score(run, job.scoring, step)
            for step in job.loss_steps:
                take_losses(run, step)


def as_work(costs: Mapping[str, float], advance: Advance) -> Progress:
    """A progress that tells the work of what each stage has done since it was named, by the cost of one unit of it."""
    last: dict[str, int] = {}

    def display(stage: str, done: int, total: int, unit: str) -> None:
        if done > (before := last.get(stage, done)):
            advance((done - before) * costs.get(stage, 0))
        last[stage] = done

    return display


def failures_text(failures: Mapping[str, Failure]) -> str:
    """What failed, and why, of the first few: on a full disk all do.

    >>> failures_text({run: Failure("OSError", "no space") for run in "abcde"})
    'a: no space; b: no space; c: no space; and 2 more'
    """
    lines = [f"{name}: {failure.message}" for name, failure in failures.items()]
    return "; ".join(lines[:MOST_NAMED]) + (f"; and {len(lines) - MOST_NAMED} more" if len(lines) > MOST_NAMED else "")


def _watch(runs: Mapping[str, Sequence[Job]], root: Path) -> Callable[[str, float | None], None]:
    """Shows progress: what lay on disk before and what a launcher knows of, or else what is to be seen on disk.

    The unit is a training step of the first job; what is drawn counts as the steps that ask as much of the network.
    Until something is done the stage has another name: workers that start are no part of the rate.
    """
    specs = {name: jobs[0].run_in(root).spec for name, jobs in runs.items()}
    name, (job, *_) = next(iter(runs.items()))
    step = step_work(job, specs[name])
    total = sum(work(jobs, specs[name]) for name, jobs in runs.items())
    before = sum(work_done(jobs, root) for jobs in runs.values())

    def watch(what: str, done: float | None) -> None:
        now = sum(work_done(jobs, root) for jobs in runs.values()) if done is None else before + done
        stage = f"{what} begin" if what == RUNS and now <= before < total else what
        progress(stage, round(min(now, total) / step), round(total / step), "steps")

    return watch
