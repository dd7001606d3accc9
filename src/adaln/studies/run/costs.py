"""How much work runs are, how much of it lies finished on disk, and what a study costs on this machine.

Work is counted in floating-point operations of the networks, so that a wide network's step weighs more than a narrow
one's. Not counted: the optimiser, features of samples, held-out losses, decoding of latents,
reference statistics.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from math import prod
from pathlib import Path

from adaln.config import RunConfig
from adaln.data import PUBLISHED_SETS, DataConfig
from adaln.evaluation.checkpoints import is_scored
from adaln.evaluation.held_out import has_losses
from adaln.models import flops, num_parameters
from adaln.processes import ProcessConfig, SamplerConfig, count_updates
from adaln.specs import DataSpec
from adaln.studies.study import Job, Plan
from adaln.training.speed import BACKWARD

BYTES_PER_PARAMETER = 4 * 4
"""float32 of weights, averaged weights and Adam's two moments."""


def work(jobs: Sequence[Job], spec: DataSpec) -> float:
    """Floating-point operations that the jobs of one run take in all, on data of that shape."""
    longest = max(job.config.steps for job in jobs)
    return longest * step_work(jobs[0], spec) + drawing_work(jobs, spec)


def drawing_work(jobs: Sequence[Job], spec: DataSpec) -> float:
    """Those of them that samples take."""
    return sum(score_work(job, spec) for job, _ in scores(jobs))


def work_done(jobs: Sequence[Job], root: Path) -> float:
    """How many of them need not be done again: those before the newest checkpoint, and those of scores on disk."""
    run, longest = jobs[0].run_in(root), max(job.config.steps for job in jobs)
    trained = min(max(run.steps_saved(), default=0), longest)
    kept = [job for job, step in scores(jobs) if is_scored(run, job.scoring, step)]
    return trained * step_work(jobs[0], run.spec) + sum(score_work(job, run.spec) for job in kept)


def scores(jobs: Sequence[Job]) -> list[tuple[Job, int]]:
    """What is drawn and scored, once each: two jobs of a run may ask for the same."""
    wanted = {(job.scoring, step): job for job in jobs for step in job.score_at}
    return [(job, step) for (_, step), job in wanted.items()]


def is_done(job: Job, root: Path) -> bool:
    """Whether the run is trained and all its scores and losses are there."""
    run = job.run_in(root)
    trained = max(run.steps_saved(), default=0) >= job.config.steps
    scored = trained and all(is_scored(run, job.scoring, step) for step in job.score_at)
    return scored and all(has_losses(run, step) for step in job.loss_steps)


def step_work(job: Job, spec: DataSpec) -> float:
    """Of one training step."""
    return BACKWARD * job.config.batch_size * flops(job.config.model, spec)


def score_work(job: Job, spec: DataSpec) -> float:
    """Of drawing the samples of one score."""
    return job.sample.num_images * image_work(job, spec)


def image_work(job: Job, spec: DataSpec) -> float:
    """Of drawing one image; guidance asks the network twice. 0 where the solver chooses its steps as it goes."""
    updates = _updates(job.config.process, job.sample.sampler)
    return (1 if job.sample.guidance.scale == 1 else 2) * updates * flops(job.config.model, spec)


@cache
def _updates(process: ProcessConfig, sampler: SamplerConfig) -> int:
    return count_updates(process.build(), sampler) or 0


@dataclass(frozen=True, slots=True)
class Cost:
    """Of all runs of a study that are not shared among its rows."""

    runs: int
    steps: int
    seconds: float
    """On all cores or GPUs together."""
    bytes: int


Rate = Callable[[RunConfig], float]
"""Floating-point operations per second in products as wide as a run's network."""


def study_cost(plan: Plan, rate: Rate, workers: int) -> Cost:
    """The cost of a plan's own jobs; those that depend on their outcomes (`Study.then`) come on top."""
    by_config: dict[RunConfig, list[Job]] = {}  # as `by_run`, without the hashes that name folders
    for job in replace(plan, seeds=plan.seeds[:1]).jobs():
        by_config.setdefault(replace(job.config, steps=1), []).append(job)
    runs, seeds = list(by_config.values()), len(plan.seeds)
    seconds = [work(jobs, spec_of(jobs[0].config.data)) / rate(jobs[0].config) for jobs in runs]
    in_turn = max(seeds * sum(seconds) / workers, max(seconds))
    steps = sum(max(job.config.steps for job in jobs) for jobs in runs)
    return Cost(seeds * len(runs), seeds * steps, in_turn, seeds * sum(run_bytes(jobs) for jobs in runs))


def run_bytes(jobs: Sequence[Job]) -> int:
    """Checkpoints that stay, and samples."""
    longest = max((job.config for job in jobs), key=lambda config: config.steps)
    image = prod(image_shape(longest.data))
    samples = sum(job.sample.num_images * image for job, _ in scores(jobs))
    parameters = num_parameters(longest.model, spec_of(longest.data))
    return len(kept_steps(longest)) * parameters * BYTES_PER_PARAMETER + samples


def kept_steps(config: RunConfig) -> set[int]:
    """Steps whose checkpoints are there when the run is done."""
    regular = [*range(config.checkpoint_every, config.steps, config.checkpoint_every), config.steps]
    chosen = {step for step in config.keep_at if step <= config.steps}
    return chosen | set(regular[-config.keep_checkpoints :] if config.keep_checkpoints else regular)


def spec_of(data: DataConfig) -> DataSpec:
    """What a scale's data will be, without opening it: the digits, published latents, else colour images."""
    if data.path in PUBLISHED_SETS:
        side = (data.size or 256) // 8
        return DataSpec(4, side, side, PUBLISHED_SETS[data.path].num_classes)
    channels, side = (1, data.size or 8) if data.path == "digits" else (3, data.size or 32)
    return DataSpec(channels, side, side, 10 if data.conditional else 0)


def image_shape(data: DataConfig) -> tuple[int, int, int]:
    """Of a sample on disk, a byte per value."""
    spec = spec_of(data)
    is_latent = data.path in PUBLISHED_SETS
    return (3, 8 * spec.height, 8 * spec.width) if is_latent else (spec.channels, spec.height, spec.width)
