"""`--dry-run`: what would be trained or drawn, and the time, disk and memory that it takes."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from adaln.cli.output import Output
from adaln.cli.progress_bar import span
from adaln.config import RunConfig, model_name
from adaln.models import num_parameters
from adaln.specs import DataSpec

if TYPE_CHECKING:
    import torch

    from adaln.cli.scoring import EvaluateOptions, StatsOptions
    from adaln.evaluation.samples import Reference
    from adaln.evaluation.scoring import Scoring
    from adaln.metrics import Source
    from adaln.runs import Run
    from adaln.sampling import Sampler
    from adaln.studies import Job

BYTES_IN_TRAINING = 5 * 4
"""Of a parameter: float32 of the weight, its gradient and average, and Adam's two moments."""


def dry_run(jobs: "Sequence[Job]", root: Path, device: "torch.device", workers: int, run: "Run") -> Output:
    """Of the runs that jobs stand for, so many at a time; `run` has their data."""
    from adaln.studies.run.costs import drawing_work, run_bytes, work, work_done
    from adaln.studies.study import by_run

    runs, spec, found = by_run(jobs), run.spec, f"{run.data.path}, {run.dataset.summary()}"
    begun = {name for name, of_run in runs.items() if (of_run[0].run_in(root).path / "config.json").exists()}
    left = {
        name: work(of_run, spec) - (work_done(of_run, root) if name in begun else 0) for name, of_run in runs.items()
    }
    drawn = {name: min(left[name], drawing_work(of_run, spec)) for name, of_run in runs.items()}  # it comes last
    threads, at_once = (1, workers) if len(runs) > 1 else (None, 1)
    rates = Rates(spec, device, threads)
    rate = {name: at_once * rates.of(of_run[0].config) for name, of_run in runs.items() if left[name]}
    seconds, drawing = (sum(of[name] / rate[name] for name in rate) for of in (left, drawn))
    parameters = max(num_parameters(job.config.model, spec) for job in jobs)
    longest = max((job.config for job in jobs), key=lambda config: config.steps)
    disk, memory = sum(run_bytes(of_run) for of_run in runs.values()), parameters * BYTES_IN_TRAINING
    missing = sum(work > 0 for work in left.values())
    counts = {"runs": len(runs), "missing": missing, "parameters": parameters, "steps": longest.steps}
    data = {
        **counts,
        "data": found,
        "seconds": seconds,
        "drawing_seconds": drawing,
        "disk_bytes": disk,
        "memory_bytes": memory,
    }
    are_scored, are_held = any(job.score_at for job in jobs), any(job.loss_steps for job in jobs)
    on_top = [name for name, come in (("scores", are_scored), ("held-out losses", are_held)) if come]
    which = f"1 run, {root / next(iter(runs))}" if len(runs) == 1 else f"{len(runs):,} runs in {root}"
    what = f"{model_name(longest.model)}, {parameters / 1e6:.3g} M parameters, {longest.steps:,} steps"
    return Output(
        data,
        [
            f"{which}: {what}; {missing:,} to train or go on with",
            f"data: {found}",
            rates.line(seconds, workers if len(runs) > 1 else None, drawing, on_top),
            f"disk: {disk / 1e9:.3g} GB of checkpoints{' and samples' * are_scored}",
            f"memory of each: {memory / 1e9:.3g} GB of weights, gradients, average and moments; activations on top",
            *average_of(longest),
            "nothing was trained",
        ],
    )


def average_of(config: RunConfig) -> list[str]:
    """What is to be known of the averaged weights at the end, if anything."""
    from adaln.metrics import start_left

    left = start_left({"step": f"{config.steps:,}", "start_in_average": config.optim.ema_decay**config.steps})
    return [f"averages: {left}"] if left else []


def dry_sample(sampler: "Sampler") -> Output:
    """Of the images that a command would draw."""
    from adaln.studies import Job
    from adaln.studies.run.costs import image_work

    run, config = sampler.run, sampler.config
    count, shape = config.num_images, (run.spec.channels, run.spec.height, run.spec.width)
    rates = Rates(run.spec, run.device, None)
    seconds = count * image_work(Job("", run.config, (), config), run.spec) / rates.of(run.config)
    data = {"images": count, "step": sampler.record["step"], "seconds": seconds, "disk_bytes": count * prod(shape)}
    by = f"{sampler.provenance['sampler']['solver']}, {sampler.updates or 'as many as it takes'} updates each"
    return Output(
        data,
        [
            f"{count:,} images of step {sampler.record['step']:,} of {run.path} by {by}",
            rates.line(seconds) if seconds else "time: not known, the solver chooses its steps",
            f"disk: {count * prod(shape) / 1e6:.3g} MB before packing, latents decoded on top",
            "nothing was drawn",
        ],
    )


def dry_sweep(run: "Run", ways: "Sequence[Scoring]", step: int) -> Output:
    """Of all ways of a sweep that the run has no scores of, and of the best one asked again."""
    from adaln.evaluation.sweep import is_kept
    from adaln.studies import Job
    from adaln.studies.run.costs import score_work

    work = {way: score_work(Job("", run.config, (), way.sample), run.spec) for way in ways}
    left = [way for way in ways if not is_kept(run, way, step)]
    count, rates = ways[0].sample.num_images, Rates(run.spec, run.device, None)
    seconds = (sum(work[way] for way in left) + max(work.values())) / rates.of(run.config)
    data = {"ways": len(ways), "missing": len(left), "images": count, "step": step, "seconds": seconds}
    return Output(
        data,
        [
            f"{len(ways):,} ways to sample step {step:,} of {run.path}, {count:,} images each: {len(left):,} to be"
            " drawn, then the best of all once more",
            rates.line(seconds, on_top=["scores"]) if seconds else "time: not known, the solver chooses its steps",
            "nothing was drawn",
        ],
    )


def dry_evaluate(
    options: "EvaluateOptions", references: "Mapping[str | None, Reference]", device: "torch.device"
) -> Output:
    """Of scores: the samples that are drawn first, and the features of all sides."""
    from adaln.evaluation.foreseen import foreseen, undrawn
    from adaln.evaluation.samples import named_reference, samples_or_sampler
    from adaln.sampling import Sampler

    found = samples_or_sampler(options.samples, options.num_images, device)
    drawn = dry_sample(found) if isinstance(found, Sampler) else None
    images = undrawn(found) if isinstance(found, Sampler) else found
    count = None if drawn else options.num_images
    further = [named_reference(options.validation, "inception").source] if options.validation else []
    parts = [
        foreseen(
            reference,
            features,
            options.weights if len(references) == 1 or features == "inception" else None,
            [reference.beside(images, count, options.metrics, features), reference.source, *further],
            options.batch_size,
            str(device),
        )
        for features, reference in references.items()
    ]
    drawing = drawn.data["seconds"] if drawn else 0.0
    seconds = drawing + (3 if options.check else 1) * sum(part.seconds or 0 for part in parts)
    about = "about" if all(part.seconds is not None for part in parts) else "at least"
    share = f", of which samples {span(drawing)}" * bool(drawing)
    return Output(
        {"drawn": drawn and drawn.data, "features": [asdict(part) for part in parts], "seconds": seconds},
        [
            f"drawn first: {drawn.shown[0]}" if drawn else f"samples: {options.samples}, which are there",
            *(part.line for part in parts),
            f"time: {about} {span(seconds)} on {device}{share}, as a batch took just now; intervals come on top",
            *([str(drawn.shown[2])] if drawn else ["disk: the scores, some kB"]),
            "nothing was drawn, trained, fetched or written",
        ],
    )


def dry_stats(reference: "Reference", images: "Source", options: "StatsOptions", device: str) -> Output:
    """Of the statistics of a reference: the features of its images."""
    from adaln.evaluation.foreseen import foreseen

    part = foreseen(reference, options.features, options.weights, [images], options.batch_size, device)
    time = [] if part.seconds is None else [f"time: about {span(part.seconds)} on {device}, as a batch took just now"]
    what = f"{options.out}: {part.features} features of {part.num_images:,} images of {part.reference}{part.ahead}"
    return Output(asdict(part), [what, *time, "nothing was trained, fetched or written"])


class Rates:
    """Operations per second of runs, each of which has so many threads of the CPU, or all: their own where a step was
    timed, that of the fastest products for networks too large to be made for that."""

    def __init__(self, spec: DataSpec, device: "torch.device", threads: int | None) -> None:
        self.spec, self.device, self.threads = spec, device, threads
        self.is_timed, self._found = True, dict[tuple[object, ...], float]()

    def of(self, config: RunConfig) -> float:
        """Networks that are alike are timed once."""
        key = (config.model, config.process, config.precision, config.batch_size)
        if key not in self._found:
            self._found[key] = self._timed(config) or self._of_products(config)
        return self._found[key]

    def _timed(self, config: RunConfig) -> float | None:
        import torch

        from adaln.models import flops
        from adaln.training.speed import BACKWARD
        from adaln.training.trial import seconds_per_image

        before = torch.get_num_threads()
        torch.set_num_threads(self.threads or before)
        try:
            seconds = seconds_per_image(config, self.spec, self.device)
        finally:
            torch.set_num_threads(before)
        self.is_timed = self.is_timed and seconds is not None
        return BACKWARD * flops(config.model, self.spec) / seconds if seconds else None

    def _of_products(self, config: RunConfig) -> float:
        import torch

        from adaln.execution import kept_rate

        rate = kept_rate(config.model.hidden_size, config.precision, self.device)
        return rate * (1 if self.device.type == "cuda" else self.threads or torch.get_num_threads())

    def line(self, seconds: float, workers: int | None = None, drawing: float = 0.0, on_top: Sequence[str] = ()) -> str:
        """On time; `drawing` is the part of it that samples take, `on_top` what it has no part of."""
        on = f"on {self.device}" + f" by {workers} at a time" * bool(workers)
        of_samples = f", of which samples {span(drawing)}" * bool(drawing)
        more = f"; {' and '.join(on_top)} come on top" * bool(on_top)
        if self.is_timed:
            return f"time: about {span(seconds)} {on}{of_samples}, as a step took just now{more}"
        return f"time: at least {span(seconds)} {on}{of_samples}, at its speed of matrix products{more}"
