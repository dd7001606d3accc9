"""`adaln sample`, `adaln evaluate` and `adaln stats`: images of a run, and what they are worth."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from adaln.cli.options import Device, Flat, OpenedFrom, Positional, check_suffix, named, parse
from adaln.cli.output import SILENT, Output
from adaln.codec import encode
from adaln.files import write_atomically
from adaln.metrics import METRICS
from adaln.sampling import SampleConfig, SampleExecution

if TYPE_CHECKING:
    import jaxtyping
    import numpy
    import torch

    import adaln.data
    import adaln.metrics
    import adaln.sampling


@dataclass(frozen=True, slots=True)
class SampleOptions:
    """What to sample, and where it goes."""

    run: Annotated[OpenedFrom[Path], named("RUN")]
    """A run."""
    config: Flat[SampleConfig] = field(default_factory=SampleConfig)
    step: int | None = None
    """Checkpoint to sample from; default: the newest."""
    weak: str | None = None
    """RUN or RUN:STEP whose prediction takes the place of the null class in guidance (autoguidance)."""
    out: Path | None = None
    """The .npz to write; default: samples/STEP-HASH.npz in the run. A grid (.png) and a record (.json) go beside it."""
    execution: Flat[SampleExecution] = field(default_factory=SampleExecution)
    device: Device = "auto"
    dry_run: bool = False
    """Say how long it takes and how much it is, and draw nothing."""


def sample_verb(words: list[str]) -> Output:
    """RUN [--num-images N] [--seed S] [--guidance.scale W] [...]: images from a run, ADM's npz and a grid."""
    options = parse(SampleOptions, "sample", words)
    if options.out:
        check_suffix(options.out, ".npz")

    from adaln.cli.dry_runs import dry_sample
    from adaln.evaluation.samples import keep_samples
    from adaln.metrics import start_left
    from adaln.parallel import find_device, group_of_torchrun, rank
    from adaln.runs import Run
    from adaln.sampling import load_sampler

    run = Run.open(options.run, find_device(options.device))
    with group_of_torchrun():
        sampler = load_sampler(run, options.config, options.step, weak_run(options.weak, run.device), options.execution)
        if options.dry_run:
            return dry_sample(sampler)
        out, are_new = keep_samples(sampler, options.out)
        if rank():
            return SILENT
    grid = out.with_suffix(".png")
    count = f"{options.config.num_images:,} images"
    done = f"wrote {count} to {out}" if are_new else f"nothing to draw: {out} holds these {count}"
    chosen, classes = classes_of(sampler.labels, run.manifest.get("data", {}))
    left = [left] if (left := start_left(sampler.record)) else []
    if distance := sampler.record.get("ema_distance"):
        left.append(
            f"the average of width {options.config.ema:g} is put together from the checkpoints at hand, its profile"
            f" {100 * distance:.2g} % off: more of them (--keep-checkpoints 0) come closer"
        )
    data = {"samples": str(out), "grid": str(grid), **sampler.record, "classes": chosen}
    return Output(data, [f"{done}, the first of them as a grid in {grid}", *classes, *left])


def classes_of(
    labels: "jaxtyping.Int64[numpy.ndarray, 'N']", learned: Mapping[str, Any]
) -> tuple[dict[str, int], list[str]]:
    """How many images are drawn of each class by its name, and lines on a single class and on classes never learned.

    `learned`: what the run's manifest says of its data.
    """
    import numpy as np

    names, counts = learned.get("class_names", []), learned.get("class_counts", [])
    numbers, images = np.unique(labels[labels >= 0], return_counts=True)
    chosen = {names[n] if n < len(names) else str(n): int(k) for n, k in zip(numbers, images, strict=True)}
    lines = [f"all of class {numbers[0]}, {next(iter(chosen))!r}"] if len(chosen) == 1 else []
    unlearned = [names[n] for n in numbers if n < len(counts) and not counts[n]]
    if unlearned:
        count = sum(chosen[name] for name in unlearned)
        first = ", ".join(map(repr, unlearned[:6]))
        lines.append(f"{count:,} of them of {len(unlearned):,} classes without any picture in the data ({first})")
    return chosen, lines


def weak_run(spec: str | None, device: "torch.device") -> "adaln.sampling.Weak | None":
    """The run and step that RUN or RUN:STEP means."""
    from adaln.runs import Run, local
    from adaln.sampling import Weak

    if spec is None:
        return None
    path, _, step = spec.rpartition(":")
    if path and step.isdecimal():
        return Weak(Run.open(local(path), device), int(step))
    return Weak(Run.open(local(spec), device))


@dataclass(frozen=True, slots=True)
class EvaluateOptions:
    """What to compare with, and in which feature space."""

    samples: Annotated[Positional[str], named("SAMPLES")]
    """Samples (.npz, folder, zip or tar of pictures, run or data set)."""
    reference: str
    """An ADM npz, a statistics file, a folder, zip or tar of pictures, a run (its data), or a data set's name."""
    validation: str | None = None
    """Other images of what the reference is of: FDr, the samples' Frechet distance over that of these."""
    features: tuple[str, ...] = ()
    """inception, dataset-classifier (trained once on the reference, which must have labels), module:function, or the
    folder of a network that transformers or timm wrote (pip install 'adaln[features]'), or several of these; default:
    those of a statistics file, dataset-classifier for labelled data, else inception."""
    metrics: tuple[str, ...] = ()
    """Scores to compute; default: all of ADM's that the features allow."""
    num_images: int | None = None
    """Take the first so many samples; of a run without samples, draw so many. A run's are those of the newest step."""
    weights: Path | None = None
    """Inception weights, instead of those fetched once and cached."""
    batch_size: int = 64
    """Images per forward of the feature network."""
    replicates: int = 200
    """Bootstrap replicates behind the intervals; 0: none."""
    check: bool = False
    """Compute the features twice more, in batches of another size and in bfloat16, and say how far each score moves."""
    out: Path | None = None
    """Where the JSON goes; default: SAMPLES-HASH.scores.json, the hash over both sides, features and settings."""
    device: str = "auto"
    """Where Inception runs and samples are drawn: cpu, cuda, mps, or auto."""
    dry_run: bool = False
    """Say what would be drawn, trained or fetched first, how long it takes and how much it is; nothing is written."""


def evaluate_verb(words: list[str]) -> Output:
    """SAMPLES --reference REF [--features F] [--metrics M ...]: FID, sFID, IS, precision, recall with intervals."""
    options = parse(EvaluateOptions, "evaluate", words)
    for metric in options.metrics:
        METRICS.check(metric)

    from adaln.evaluation.samples import evaluate, named_reference, named_samples
    from adaln.metrics import check_request
    from adaln.parallel import find_device, group_of_torchrun, rank

    check_request(options.metrics, options.replicates, options.batch_size, options.validation)  # before any work
    if options.out and len(options.features) > 1:
        raise ValueError(f"out is one file, {str(options.out)!r}; {len(options.features)} features give one each")
    device = find_device(options.device)
    references = {name: named_reference(options.reference, name) for name in options.features or (None,)}
    if options.dry_run:
        from adaln.cli.dry_runs import dry_evaluate

        return dry_evaluate(options, references, device)
    with group_of_torchrun():
        source = named_samples(options.samples, options.num_images, device)
        by_features = [
            evaluate(
                source,
                reference,
                features,
                options.metrics,
                validation=options.validation,
                num_images=options.num_images,
                weights=options.weights if len(references) == 1 or features == "inception" else None,
                batch_size=options.batch_size,
                replicates=options.replicates,
                check=options.check,
                device=str(device),
            )
            for features, reference in references.items()
        ]
        if rank():
            return SILENT
    return _kept(by_features, source, options.out)


def _kept(by_features: "list[adaln.metrics.Scores]", source: "Path | adaln.data.Dataset", out: Path | None) -> Output:
    """The scores of each feature space in a file; for several, the mean of FDr as well."""
    from adaln.metrics import unlike_published
    from adaln.views.scores import mean_ratio, scores_beside

    shown: list[Any] = []
    data: list[dict[str, Any]] = []
    for scores in by_features:
        file = out or scores_beside(source, scores)
        write_atomically(file, json.dumps(encode(scores, finite=True), indent=1) + "\n")
        data.append({"scores_file": str(file), **encode(scores), "unlike_published": unlike_published(scores)})
        shown += [*scores.blocks(), f"wrote {file}"]
    if len(by_features) == 1:
        return Output(data[0], shown)
    mean, line = mean_ratio(by_features)
    return Output({"by_features": data, "mean_fdr": mean}, [*shown, *line])


@dataclass(frozen=True, slots=True)
class StatsOptions:
    """In which features, and of what."""

    source: Annotated[Positional[str], named("SOURCE")]
    """A source (.npz, folder, zip or tar of pictures, run or data set)."""
    out: Annotated[Positional[Path], named("OUT.npz")]
    """The statistics file (.npz)."""
    features: str | None = None
    """inception, dataset-classifier, module:function or a network's folder; default: dataset-classifier if labelled,
    else inception."""
    num_images: int | None = None
    """Take the first so many images."""
    weights: Path | None = None
    """Inception weights, instead of those fetched once and cached."""
    rows: bool = True
    """Keep the features of single images, which precision and recall need (8 KB per image with Inception)."""
    batch_size: int = 64
    """Images per forward of the feature network."""
    device: str = "auto"
    """Where Inception runs: cpu, cuda, mps, or auto."""
    dry_run: bool = False
    """Say what would be trained or fetched first and how long it takes; nothing is written."""


def stats_verb(words: list[str]) -> Output:
    """SOURCE OUT.npz [--features F]: statistics of a reference, to be used as --reference again and again."""
    options = parse(StatsOptions, "stats", words)
    check_suffix(options.out, ".npz")

    from adaln.evaluation.samples import named_reference
    from adaln.metrics import StatisticsFile, check_request, check_sides, parse_source, save_statistics, statistics
    from adaln.parallel import find_device, first_goes_first, group_of_torchrun, rank

    check_request((), 0, options.batch_size)
    reference = named_reference(options.source, options.features)
    if isinstance(reference.source, StatisticsFile):
        raise ValueError(f"{options.source}: holds statistics already; expected images")
    images = parse_source(reference.source, options.num_images)
    check_sides([images])
    device = str(find_device(options.device))
    if options.dry_run:
        from adaln.cli.dry_runs import dry_stats

        return dry_stats(reference, images, options, device)
    with group_of_torchrun():
        with first_goes_first():
            extractor = reference.extractor(options.features, options.weights, device)
        made = statistics(images, extractor, batch_size=options.batch_size)
        if rank():
            return SILENT
    save_statistics(made, options.out, rows=options.rows)
    out, origin = str(options.out), made.origin
    data = {"statistics": out, "origin": asdict(origin), "extractor": made.extractor, "dim": made.dim}
    lines = [f"wrote statistics of {origin.num_images:,} images of {origin.name} to {out}: {extractor.label}"]
    if origin.num_images <= made.dim:
        lines.append(f"fewer images than the {made.dim} features: the covariance is singular and FID biased upwards")
    if origin.passed_over:
        lines.append(f"passed over: {', '.join(origin.passed_over)}")
    return Output(data, lines)
