"""`adaln train` and `adaln sample`."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import nn

from adaln.analysis.recorder import Recorder
from adaln.cli.answer import Answer
from adaln.cli.parsing import Flat, parse, take_option, take_word, wants_help
from adaln.cli.progress import progress
from adaln.config import PRESETS, RunConfig, short_hash
from adaln.files import write_atomically
from adaln.models import MODELS
from adaln.processes import PROCESSES
from adaln.report import ImageGrid, picture
from adaln.runs import Run, read_records
from adaln.sampling import SampleConfig, Samples, Weak, num_updates, sample, save_samples
from adaln.training import train


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """Where a run lives and where it computes."""

    config: Flat[RunConfig]
    root: Path = Path("runs")
    """Folder that holds the runs."""
    out: Path | None = None
    """This very folder instead of ROOT/NAME-HASH; a run in it is continued."""
    device: str = "auto"
    """cpu, cuda, mps, or auto: the fastest there is."""


def train_verb(words: list[str]) -> Answer:
    """PRESET [--model NAME] [--process NAME] [--scheme NAME] [any field]: train a run, or go on with it."""
    if not words or wants_help(words[:1]):
        words = ["digits", "--help"]
    preset, words = take_word(words, f"a preset ({', '.join(PRESETS)})")
    config = PRESETS[preset]()
    model, words = take_option(words, "--model")
    process, words = take_option(words, "--process")
    if model:
        config = replace(config, model=MODELS[model])
    if process:
        config = replace(config, process=PROCESSES[process])
    options = parse(TrainOptions, f"train {preset}", words, TrainOptions(config))
    run = Run.create(options.config, options.root, options.out, find_device(options.device))
    train_with_progress(run)
    last = read_records(run.path / "metrics.jsonl")[-1:]
    data = {"run": str(run.path), "step": run.config.steps, "scheme": run.config.scheme.name, "metrics": last}
    loss = f", loss {last[0]['loss']:.4f}" if last else ""
    return Answer(data, [f"trained {run.path}: {run.config.steps} steps under {run.config.scheme.name}{loss}"])


def train_with_progress(run: Run) -> None:
    """Train with a bar: steps, rate, time left."""
    done = max(run.steps_saved(), default=0)
    with progress(f"train {run.path.name}", run.config.steps, "steps", done) as advance:

        def count(step: int, model: nn.Module) -> None:
            advance(1)

        train(run, [Recorder(run.path / "analysis" / "roles.jsonl"), count])


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
    run = Run.open(path, find_device(options.device))
    with progress(f"sample {run.path.name}", num_updates(run, options.config), "image updates") as advance:
        samples = sample(run, options.config, options.step, advance, weak_run(options.weak, run.device))
    out = options.out or run.path / "samples" / f"{samples.provenance['step']:09d}-{short_hash(samples.provenance)}.npz"
    if out.suffix != ".npz":
        raise ValueError(f"out is {str(out)!r}; expected a name that ends in .npz")
    save_samples(samples, out)
    grid = out.with_suffix(".png")
    write_atomically(grid, picture(sample_grid(samples, run.path.name), "png"))
    return Answer(
        {"samples": str(out), "grid": str(grid), **samples.provenance},
        [f"wrote {len(samples.images)} images to {out}, the first of them as a grid to {grid}"],
    )


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


def find_device(name: str) -> torch.device:
    """The device that a name means on this machine; `ValueError` where it is not there."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, there in available.items() if there))
    if not available.get(name.partition(":")[0], False):
        raise ValueError(f"device {name!r} is not here; available: {', '.join(k for k, v in available.items() if v)}")
    return torch.device(name)
