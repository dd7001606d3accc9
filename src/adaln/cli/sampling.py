"""`adaln sample`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import torch

from adaln.cli.options import Device, Flat, Positional, check_suffix, named, parse
from adaln.cli.output import SILENT, Output
from adaln.evaluation.samples import keep_samples
from adaln.parallel import find_device, group_of_torchrun, rank
from adaln.runs import Run
from adaln.sampling import SampleConfig, SampleExecution, Weak, load_sampler


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
    device: Device = "auto"


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


def weak_run(spec: str | None, device: torch.device) -> Weak | None:
    """The run and step that RUN or RUN:STEP means."""
    if spec is None:
        return None
    path, _, step = spec.rpartition(":")
    return Weak(Run.open(path, device), int(step)) if path and step.isdecimal() else Weak(Run.open(spec, device))
