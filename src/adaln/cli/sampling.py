"""`adaln sample`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch

from adaln.cli.options import Flat, Positional, check_suffix, named, parse
from adaln.cli.output import SILENT, Output
from adaln.codec import short_hash
from adaln.files import write_atomically
from adaln.metrics import open_images
from adaln.parallel import find_device, group_of_torchrun, rank
from adaln.report import ImageGrid, picture
from adaln.runs import Run
from adaln.sampling import SampleConfig, SampleExecution, Sampler, Weak, load_sampler, save_samples


@dataclass(frozen=True, slots=True)
class SampleOptions:
    """What to sample, and where it goes."""

    run: Annotated[Positional[Path], named("RUN")]
    """A run."""
    config: Flat[SampleConfig] = field(default_factory=SampleConfig)
    step: int | None = None
    """Checkpoint to sample from; default: the newest."""
    weak: str | None = None
    """RUN or RUN:STEP whose prediction takes the place of the null class in guidance (autoguidance)."""
    out: Path | None = None
    """The .npz to write; default: samples/STEP-HASH.npz in the run. A grid (.png) and a record (.json) go beside it."""
    execution: Flat[SampleExecution] = field(default_factory=SampleExecution)
    device: str = "auto"
    """cpu, cuda, mps, or auto: the fastest there is."""


def sample_verb(words: list[str]) -> Output:
    """RUN [--num-images N] [--seed S] [--guidance.scale W] [...]: images from a run, ADM's npz and a grid."""
    options = parse(SampleOptions, "sample", words)
    if options.out:
        check_suffix(options.out, ".npz")
    run = Run.open(options.run, find_device(options.device))
    with group_of_torchrun():
        sampler = load_sampler(run, options.config, options.step, weak_run(options.weak, run.device), options.execution)
        out, are_new = keep_samples(sampler, options.out)
        if rank():
            return SILENT
    grid = out.with_suffix(".png")
    count = f"{options.config.num_images:,} images"
    done = f"wrote {count} to {out}" if are_new else f"nothing to draw: {out} holds these {count}"
    data = {"samples": str(out), "grid": str(grid), **sampler.provenance}
    return Output(data, [f"{done}, the first of them as a grid in {grid}"])


def keep_samples(sampler: Sampler, out: Path | None) -> tuple[Path, bool]:
    """Draw and write samples with their record and a grid of some of them, by default into the run.

    Returns the npz, and whether it had to be drawn.
    """
    run, record = sampler.run, sampler.provenance
    out = out or run.path / "samples" / f"{record['step']:09d}-{short_hash(record)}.npz"
    are_new = save_samples(sampler, out)
    if rank() == 0:
        write_atomically(out.with_suffix(".png"), picture(sample_grid(out, record, run.path.name), "png"))
    return out, are_new


def weak_run(spec: str | None, device: torch.device) -> Weak | None:
    """The run and step that RUN or RUN:STEP means."""
    if spec is None:
        return None
    path, _, step = spec.rpartition(":")
    return Weak(Run.open(path, device), int(step)) if path and step.isdecimal() else Weak(Run.open(spec, device))


def sample_grid(file: Path, provenance: Mapping[str, Any], title: str, most: int = 64) -> ImageGrid:
    """The first images of an npz in rows of up to eight."""
    stream = open_images(file)
    count = min(stream.num_images, most)
    columns = min(count, 8)
    rows = count // columns
    images = next(iter(stream.batches(rows * columns))).permute(0, 2, 3, 1).numpy()
    caption = (
        f"First {rows * columns} of {stream.num_images:,} samples, step {provenance['step']}, averaged weights, solver"
        f" {provenance['sampler']['solver']}, guidance {provenance['guidance']['scale']:g}, seed {provenance['seed']}."
    )
    return ImageGrid(title, caption, images.reshape(rows, columns, *images.shape[1:]))
