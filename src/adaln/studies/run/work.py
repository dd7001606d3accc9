"""How much work runs are, and how much of it lies finished on disk: what progress and time left are told from.

Work is counted in floating-point operations, so that a wide network's step weighs more than a narrow one's.
"""

from collections.abc import Sequence
from pathlib import Path

from adaln.evaluation.checkpoints import is_scored
from adaln.models import flops
from adaln.processes import count_updates
from adaln.runs import Run
from adaln.studies.study import Job

BACKWARD = 3
"""A training step costs about three forward passes."""


def work(jobs: Sequence[Job], root: Path) -> float:
    """Floating-point operations that the jobs of one run take in all."""
    longest = max(job.config.steps for job in jobs)
    return longest * step_work(jobs[0], root) + sum(score_work(job, root) for job, _ in scores(jobs))


def work_done(jobs: Sequence[Job], root: Path) -> float:
    """How many of them need not be done again: those before the newest checkpoint, and those of scores on disk."""
    longest = max(job.config.steps for job in jobs)
    trained = min(max(run_of(jobs[0], root).steps_saved(), default=0), longest)
    kept = [job for job, step in scores(jobs) if is_scored(run_of(job, root), job.scoring, step)]
    return trained * step_work(jobs[0], root) + sum(score_work(job, root) for job in kept)


def scores(jobs: Sequence[Job]) -> list[tuple[Job, int]]:
    """What is drawn and scored, once each: two jobs of a run may ask for the same."""
    wanted = {(job.scoring, step): job for job in jobs for step in job.score_at}
    return [(job, step) for (_, step), job in wanted.items()]


def is_done(job: Job, root: Path) -> bool:
    """Whether the run is trained and all its scores are there."""
    run = run_of(job, root)
    trained = max(run.steps_saved(), default=0) >= job.config.steps
    return trained and all(is_scored(run, job.scoring, step) for step in job.score_at)


def step_work(job: Job, root: Path) -> float:
    """Work of one training step."""
    return BACKWARD * job.config.batch_size * pass_work(job, root)


def score_work(job: Job, root: Path) -> float:
    """Work of drawing the samples of one score; 0 where the solver chooses its steps as it goes."""
    return job.sample.num_images * image_work(job, root)


def image_work(job: Job, root: Path) -> float:
    """Work of drawing one image, for which guidance asks the network twice."""
    updates = count_updates(run_of(job, root).process, job.sample.sampler) or 0
    return updates * (1 if job.sample.guidance.scale == 1 else 2) * pass_work(job, root)


def pass_work(job: Job, root: Path) -> float:
    """Work of one image forward through the network."""
    return flops(job.config.model, run_of(job, root).spec)


def run_of(job: Job, root: Path) -> Run:
    """The job's run as it lies on disk, without making it."""
    return Run(root / "-".join(job.run_key), job.config)
