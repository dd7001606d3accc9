"""`--dry-run`: what would be trained or drawn, and the time, disk and memory that it takes at least."""

from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from adaln.cli.output import Output
from adaln.cli.progress_bar import span
from adaln.config import RunConfig, model_name
from adaln.models import num_parameters
from adaln.sampling import SampleConfig
from adaln.specs import DataSpec

if TYPE_CHECKING:
    import torch

    from adaln.runs import Run
    from adaln.sampling import Sampler
    from adaln.studies import Job

BYTES_IN_TRAINING = 5 * 4
"""Of a parameter: float32 of the weight, its gradient and average, and Adam's two moments."""


def dry_run(jobs: "Sequence[Job]", root: Path, device: "torch.device", workers: int, spec: DataSpec) -> Output:
    """Of the runs that jobs stand for, so many at a time; `spec` is that of their data."""
    from adaln.studies.run.costs import drawing_work, run_bytes, work, work_done
    from adaln.studies.study import by_run

    runs = by_run(jobs)
    begun = {name for name, of_run in runs.items() if (of_run[0].run_in(root).path / "config.json").exists()}
    left = {
        name: work(of_run, spec) - (work_done(of_run, root) if name in begun else 0) for name, of_run in runs.items()
    }
    drawn = {name: min(left[name], drawing_work(of_run, spec)) for name, of_run in runs.items()}  # it comes last
    threads, at_once = (1, workers) if len(runs) > 1 else (None, 1)
    rates = {name: at_once * rate_of(of_run[0].config, device, threads) for name, of_run in runs.items()}
    seconds, drawing = (sum(of[name] / rates[name] for name in runs) for of in (left, drawn))
    parameters = max(num_parameters(job.config.model, spec) for job in jobs)
    longest = max((job.config for job in jobs), key=lambda config: config.steps)
    disk, memory = sum(run_bytes(of_run) for of_run in runs.values()), parameters * BYTES_IN_TRAINING
    missing = sum(work > 0 for work in left.values())
    counts = {"runs": len(runs), "missing": missing, "parameters": parameters, "steps": longest.steps}
    data = {**counts, "seconds": seconds, "drawing_seconds": drawing, "disk_bytes": disk, "memory_bytes": memory}
    which = f"1 run, {root / next(iter(runs))}" if len(runs) == 1 else f"{len(runs):,} runs in {root}"
    what = f"{model_name(longest.model)}, {parameters / 1e6:.3g} M parameters, {longest.steps:,} steps"
    return Output(
        data,
        [
            f"{which}: {what}; {missing:,} to train or go on with",
            least(seconds, device, workers if len(runs) > 1 else None, drawing),
            f"disk: {disk / 1e9:.3g} GB of checkpoints and samples",
            f"memory of each: {memory / 1e9:.3g} GB of weights, gradients, average and moments; activations on top",
            "nothing was trained",
        ],
    )


def dry_sample(run: "Run", sampler: "Sampler", config: SampleConfig) -> Output:
    """Of the images that a command would draw."""
    from adaln.studies import Job
    from adaln.studies.run.costs import image_work

    job = Job("", run.config, (), config)
    count, shape = config.num_images, (run.spec.channels, run.spec.height, run.spec.width)
    seconds = count * image_work(job, run.spec) / rate_of(run.config, run.device, None)
    data = {"images": count, "step": sampler.record["step"], "seconds": seconds, "disk_bytes": count * prod(shape)}
    return Output(
        data,
        [
            f"{count:,} images of step {sampler.record['step']:,} of {run.path}",
            least(seconds, run.device, None) if seconds else "time: not known, the solver chooses its steps",
            f"disk: {count * prod(shape) / 1e6:.3g} MB before packing, latents decoded on top",
            "nothing was drawn",
        ],
    )


def rate_of(config: RunConfig, device: "torch.device", threads: int | None) -> float:
    """Operations per second of one run: of so many threads of the CPU, or of all."""
    import torch

    from adaln.execution import kept_rate

    rate = kept_rate(config.model.hidden_size, config.precision, device)
    return rate * (1 if device.type == "cuda" else threads or torch.get_num_threads())


def least(seconds: float, device: "torch.device", workers: int | None, drawing: float = 0.0) -> str:
    """The line on time."""
    at_once = f" by {workers} at a time" if workers else ""
    of_samples = f", of which samples {span(drawing)}" if drawing else ""
    return (
        f"time: at least {span(seconds)} on {device}{at_once}{of_samples}, at its rate of products; small networks take"
        " several times as long, and scores come on top"
    )
