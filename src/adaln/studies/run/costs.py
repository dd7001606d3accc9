"""What a study costs on this machine: runs, steps, hours from a measured step, disk.

A network is timed for a few steps, cut to one block, a small batch and small images where it is large, and the time is
scaled by floating-point operations; the optimiser's by parameters. Not counted: features of samples, decoding latents,
reference statistics, which take a few percent.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from math import prod

import torch

from adaln.config import OptimConfig, RunConfig
from adaln.data import PUBLISHED_SETS, DataConfig
from adaln.execution import Precision, autocast
from adaln.models import ModelConfig, build, flops, num_parameters
from adaln.processes import ProcessConfig, count_updates
from adaln.rng import generator
from adaln.studies.run.run_study import by_run
from adaln.studies.run.work import scores
from adaln.studies.study import Job, Plan
from adaln.training import TrainState
from adaln.types import DataSpec

MOST_FLOPS = 1e9
"""Of the forward pass that is timed; what takes more is cut."""
BYTES_PER_PARAMETER = 4 * 4
"""float32 of weights, averaged weights and Adam's two moments."""


@dataclass(frozen=True, slots=True)
class Speed:
    """Seconds on one core or one GPU."""

    per_trained_flop: float
    """Forward and backward, per operation of the forward pass."""
    per_sampled_flop: float
    """Forward only."""
    per_parameter: float
    """Optimiser and moving average."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Of all runs of a study that are not shared among its rows."""

    runs: int
    steps: int
    seconds: float
    """On all cores or GPUs together."""
    bytes: int


MeasureSpeed = Callable[[RunConfig, DataSpec], Speed]


def study_cost(plan: Plan, speed: MeasureSpeed, workers: int) -> Cost:
    """The cost of a plan's own jobs; those that depend on their outcomes (`Study.then`) come on top."""
    runs, seeds = runs_of_a_seed(plan), len(plan.seeds)
    seconds = [run_seconds(jobs, speed(jobs[0].config, spec_of(jobs[0].config.data))) for jobs in runs]
    in_turn = max(seeds * sum(seconds) / workers, max(seconds))
    steps = sum(max(job.config.steps for job in jobs) for jobs in runs)
    return Cost(seeds * len(runs), seeds * steps, in_turn, seeds * sum(run_bytes(jobs) for jobs in runs))


def runs_of_a_seed(plan: Plan) -> list[list[Job]]:
    """The jobs of each run of the first seed; those of other seeds cost as much."""
    return [list(jobs) for jobs in by_run(replace(plan, seeds=plan.seeds[:1]).jobs()).values()]


def run_seconds(jobs: Sequence[Job], speed: Speed) -> float:
    """Training and sampling of the jobs of one run."""
    config = jobs[0].config
    one_pass, parameters = sizes(config.model, spec_of(config.data))
    step = config.batch_size * one_pass * speed.per_trained_flop + parameters * speed.per_parameter
    process = config.process.build()
    drawn = 0.0
    for job, _ in scores(jobs):
        updates = count_updates(process, job.sample.sampler) or 0
        drawn += (1 if job.sample.guidance.scale == 1 else 2) * updates * job.sample.num_images
    return max(job.config.steps for job in jobs) * step + drawn * one_pass * speed.per_sampled_flop


def run_bytes(jobs: Sequence[Job]) -> int:
    """Checkpoints that stay, and samples."""
    longest = max((job.config for job in jobs), key=lambda config: config.steps)
    _, parameters = sizes(longest.model, spec_of(longest.data))
    image = prod(image_shape(longest.data))
    samples = sum(job.sample.num_images * image for job, _ in scores(jobs))
    return len(kept_steps(longest)) * parameters * BYTES_PER_PARAMETER + samples


def kept_steps(config: RunConfig) -> set[int]:
    """Steps whose checkpoints are there when the run is done."""
    regular = [*range(config.checkpoint_every, config.steps, config.checkpoint_every), config.steps]
    chosen = {step for step in config.keep_at if step <= config.steps}
    return chosen | set(regular[-config.keep_checkpoints :] if config.keep_checkpoints else regular)


def spec_of(data: DataConfig) -> DataSpec:
    """What a scale's data will be, without opening it: the digits, published latents, else colour images."""
    if data.path == "digits":
        return DataSpec(1, data.size or 8, data.size or 8, 10 if data.conditional else 0)
    if data.path in PUBLISHED_SETS:
        side = (data.size or 256) // 8
        return DataSpec(4, side, side, PUBLISHED_SETS[data.path].num_classes)
    return DataSpec(3, data.size or 32, data.size or 32, 10 if data.conditional else 0)


def image_shape(data: DataConfig) -> tuple[int, int, int]:
    """Of a sample on disk, a byte per value."""
    spec = spec_of(data)
    return (
        (3, 8 * spec.height, 8 * spec.width)
        if data.path in PUBLISHED_SETS
        else (spec.channels, spec.height, spec.width)
    )


def networks(plans: Iterable[Plan]) -> list[tuple[RunConfig, DataSpec]]:
    """One run for each network that is to be timed."""
    found: dict[object, tuple[RunConfig, DataSpec]] = {}
    for plan in plans:
        for jobs in runs_of_a_seed(plan):
            config = jobs[0].config
            found.setdefault(key(config, spec_of(config.data)), (config, spec_of(config.data)))
    return list(found.values())


def key(config: RunConfig, spec: DataSpec) -> tuple[ModelConfig, ProcessConfig, DataSpec, int, Precision]:
    """What the speed of a run depends on, after the cut."""
    model, small, batch = cut(config.model, spec, config.batch_size)
    return model, config.process, small, batch, config.precision


def cut(model: ModelConfig, spec: DataSpec, batch_size: int) -> tuple[ModelConfig, DataSpec, int]:
    """The network, its images and its batch, made small where a step of the whole would take long."""
    if batch_size * sizes(model, spec)[0] <= MOST_FLOPS:
        return model, spec, batch_size
    model = model.resized(depth=1)
    while sizes(model, spec)[0] > MOST_FLOPS and spec.height > 16:
        spec = replace(spec, height=spec.height // 2, width=spec.width // 2)
    return model, spec, max(1, min(batch_size, int(MOST_FLOPS / sizes(model, spec)[0])))


@cache
def sizes(model: ModelConfig, spec: DataSpec) -> tuple[int, int]:
    """Operations of a forward pass, and parameters."""
    return flops(model, spec), num_parameters(model, spec)


def measured_speed(config: RunConfig, spec: DataSpec, device: torch.device) -> Speed:
    """Time a few steps and a few forward passes on one core, or on the device."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _timed(*key(config, spec), device)
    finally:
        torch.set_num_threads(threads)


@cache
def _timed(
    model: ModelConfig, process: ProcessConfig, spec: DataSpec, batch: int, precision: Precision, device: torch.device
) -> Speed:
    steps, rng = process.build(), generator("costs", device=device)
    network = build(model, spec, rng)
    state = TrainState(network, OptimConfig())
    shape = (batch, spec.channels, spec.height, spec.width)
    x = torch.randn(shape, generator=rng, device=device)
    y = torch.zeros(batch, dtype=torch.long, device=device) if spec.num_classes else None
    times: list[tuple[float, float, float]] = []
    for _ in range(3):
        t, noise = steps.draw(shape, rng)
        began = _now(device)
        with autocast(precision, device):
            loss = steps.loss(network, x, y, t, noise).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        passed = _now(device)
        state.update(loss.float())
        updated = _now(device)
        with torch.inference_mode():
            network(x, t, y)
        times.append((passed - began, updated - passed, _now(device) - updated))
    trained, update, sampled = (min(one) for one in zip(*times[1:], strict=True))
    one_pass, parameters = sizes(model, spec)
    return Speed(trained / (batch * one_pass), sampled / (batch * one_pass), update / parameters)


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
