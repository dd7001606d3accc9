"""`adaln sample`."""

from dataclasses import dataclass, field
from pathlib import Path

import torch

from adaln.cli.answer import Answer
from adaln.cli.devices import find_device
from adaln.cli.parsing import Flat, parse, take_word, wants_help
from adaln.cli.progress import progress
from adaln.config import short_hash
from adaln.files import write_atomically
from adaln.report import ImageGrid, picture
from adaln.runs import Run
from adaln.sampling import SampleConfig, Samples, Weak, num_updates, sample, save_samples


@dataclass(frozen=True, slots=True)
class SampleOptions:
    """What to sample, and where it goes."""

    config: Flat[SampleConfig] = field(default_factory=SampleConfig)
    step: int | None = None
    """Checkpoint to sample from; default: the newest."""
    weak: str | None = None
    """RUN or RUN:STEP whose prediction takes the place of the null class in guidance (autoguidance)."""
    out: Path | None = None
    """The .npz to write; default: samples/STEP-HASH.npz in the run. A grid (.png) and a record (.json) go beside it."""
    device: str = "auto"
    """cpu, cuda, mps, or auto: the fastest there is."""


def sample_verb(words: list[str]) -> Answer:
    """RUN [--num-images N] [--seed S] [--guidance.scale W] [...]: images from a run, ADM's npz and a grid."""
    if wants_help(words):
        parse(SampleOptions, "sample RUN", ["--help"])
    path, words = take_word(words, "a run")
    options = parse(SampleOptions, "sample RUN", words)
    if options.out and options.out.suffix != ".npz":
        raise ValueError(f"out is {str(options.out)!r}; expected a name that ends in .npz")
    run = Run.open(path, find_device(options.device))
    with progress(f"sample {run.path.name}", num_updates(run, options.config), "image updates") as advance:
        samples = sample(run, options.config, options.step, advance, weak_run(options.weak, run.device))
    out, grid = keep_samples(run, samples, options.out)
    return Answer(
        {"samples": str(out), "grid": str(grid), **samples.provenance},
        [f"wrote {len(samples.images)} images to {out}, the first of them as a grid to {grid}"],
    )


def keep_samples(run: Run, samples: Samples, out: Path | None = None) -> tuple[Path, Path]:
    """Write samples with their record and a grid of some of them, by default into the run; returns npz and grid."""
    out = out or run.path / "samples" / f"{samples.provenance['step']:09d}-{short_hash(samples.provenance)}.npz"
    save_samples(samples, out)
    return out, write_atomically(out.with_suffix(".png"), picture(sample_grid(samples, run.path.name), "png"))


def weak_run(spec: str | None, device: torch.device) -> Weak | None:
    """The run and step that RUN or RUN:STEP means."""
    if spec is None:
        return None
    path, _, step = spec.rpartition(":")
    return Weak(Run.open(path, device), int(step)) if path and step.isdecimal() else Weak(Run.open(spec, device))


def sample_grid(samples: Samples, title: str, most: int = 64) -> ImageGrid:
    """The first images in rows of up to ten, or eight."""
    count = min(len(samples.images), most)
    columns = min(count, 8)
    rows = count // columns
    images = samples.images[: rows * columns]
    shape = (rows, columns, *images.shape[1:])
    provenance = samples.provenance
    caption = (
        f"First {rows * columns} of {len(samples.images)} samples, step {provenance['step']}, averaged weights, solver"
        f" {provenance['sampler']['solver']}, guidance {provenance['guidance']['scale']:g}, seed {provenance['seed']}."
    )
    return ImageGrid(title, caption, images.reshape(shape))
