"""What the analysis costs: a recorded step beside a training step, an XL/2 checkpoint beside a plain read of it.

"warm": the file lies in the page cache; "cold": the kernel was told to drop it first, so that it comes from the disk.
Memory is the peak of a fresh process that analyses the file, 2.7 GB for XL/2, which is written to a temporary folder.
"""

import multiprocessing
import os
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import torch

from adaln.analysis import LOG_SPACED_STEPS, Recorder, describe
from adaln.benchmarks.machine import in_turns, machine, plain_read, resident_bytes, torch_device
from adaln.benchmarks.options import AnalysisOptions
from adaln.benchmarks.peer import LATENTS, busy_model
from adaln.benchmarks.training import batch_of, loss_of
from adaln.config import OptimConfig
from adaln.execution import num_threads
from adaln.models import MODELS, skeleton
from adaln.rng import generator
from adaln.tensor_files import TensorFile, save_tensors
from adaln.training import TrainState

SHARE_OVER_STEPS = (1_000, 50_000, 400_000)


def analysis(options: AnalysisOptions) -> dict[str, Any]:
    """A recorded step, and the analysis of a whole file."""
    device = torch_device(options.device)
    return {
        "machine": machine(device),
        "options": asdict(options),
        "recording": recording(options, device),
        "reading": reading(options),
    }


def recording(options: AnalysisOptions, device: torch.device) -> dict[str, Any]:
    """A training step (forward, backward, AdamW, average), and what recording adds to it."""
    model = busy_model(MODELS[options.trained], device)
    state, batch = TrainState(model, OptimConfig()), batch_of(options.batch_size, device)

    def backward() -> None:
        loss_of(batch, "float32", model).backward()  # type: ignore[no-untyped-call]

    with tempfile.TemporaryDirectory() as folder:
        recorder, steps = Recorder(Path(folder) / "roles.jsonl", tuple(range(1_000_000))), count()
        parts = {
            "backward": backward,
            "record": lambda: recorder(next(steps), model),
            "update": lambda: state.update(torch.zeros((), device=device)),
        }
        taken = in_turns(parts, options.repeats).median()
    step = taken["backward"] + taken["update"]
    recorded = {steps: sum(at < steps for at in LOG_SPACED_STEPS) for steps in SHARE_OVER_STEPS}
    shares = {str(steps): taken["record"] * times / (step * steps) for steps, times in recorded.items()}
    return {
        "training_step_seconds": step,
        "recording_seconds": taken["record"],
        "share_of_training_time_by_steps": shares,
    }


def write_checkpoint(name: str, file: Path) -> None:
    """A file of the network's size with values of a Gaussian start."""
    rng = generator("benchmark", "file")
    tensors = {key: t.shape for key, t in skeleton(MODELS[name], LATENTS).state_dict().items()}
    save_tensors(file, {key: 0.02 * torch.randn(shape, generator=rng) for key, shape in tensors.items()})


def drop_from_cache(file: Path) -> None:
    """Ask the kernel to forget the file's pages."""
    descriptor = os.open(file, os.O_RDONLY)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


def peak_bytes(file: Path, threads: int) -> tuple[int, int]:
    """Peak resident memory of this fresh process before and after the analysis."""
    torch.set_num_threads(threads)
    before = resident_bytes("VmHWM")
    describe(TensorFile(file))
    return before, resident_bytes("VmHWM")


def reading(options: AnalysisOptions) -> dict[str, Any]:
    """The analysis of a whole file beside the plain read of it."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.safetensors"
        write_checkpoint(options.model, file)
        found: dict[str, Any] = {"bytes": file.stat().st_size}
        for cache in ("warm", "cold"):
            found[cache] = read_in_turns(file, options, cold=cache == "cold")
        with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
            before, after = pool.apply(peak_bytes, (file, max(options.threads)))
    return {**found, "peak_bytes": after, "peak_bytes_before_reading": before}


def read_in_turns(file: Path, options: AnalysisOptions, cold: bool) -> dict[str, Any]:
    """Median seconds, rates and the ratio of the analysis to the plain read."""

    def analysed(threads: int) -> None:
        with num_threads(threads):
            describe(TensorFile(file))

    contenders: dict[str, Callable[[], object]] = {"plain read": partial(plain_read, file)}
    contenders |= {f"{threads} threads": partial(analysed, threads) for threads in options.threads}
    turns = in_turns(contenders, options.repeats, partial(drop_from_cache, file) if cold else None)
    wall = turns.median()
    return {
        "seconds": wall,
        "processor_seconds": turns.median("processor"),
        "gigabytes_per_second": {key: file.stat().st_size / each / 1e9 for key, each in wall.items()},
        "times_a_plain_read": {key: each / wall["plain read"] for key, each in wall.items()},
    }
