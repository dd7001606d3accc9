"""What the analysis costs: a recorded step against a training step, an XL/2 checkpoint against a plain read of it.

    OMP_NUM_THREADS=1 python benchmarks/analysis.py [--model DiT-XL/2] [--threads 1 2] [--repeats 3] > analysis.json

Reading and analysing take turns, so that a change of the machine's load hits both; medians are reported, with the
processor's seconds beside the wall's, which other work on the machine lengthens less. "warm": the file lies in the page
cache; "cold": the kernel was told to drop it first, so that it comes from the disk. Memory is the peak of a fresh
process that analyses the file. The file, 2.7 GB for XL/2, is written to a temporary folder and removed.
"""

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from adaln.analysis import LOG_SPACED_STEPS, Recorder, TensorFile, describe
from adaln.config import OptimConfig
from adaln.models import MODELS, build, skeleton
from adaln.processes import PROCESSES
from adaln.processes import build as build_process
from adaln.rng import generator
from adaln.runs import TrainState, save_tensors
from adaln.types import DataSpec

LATENTS = DataSpec(channels=4, height=32, width=32, num_classes=1000)
READ_BYTES = 1 << 20
SHARE_OVER_STEPS = (1_000, 50_000, 400_000)


def seconds_of(work: Callable[[], object]) -> tuple[float, float]:
    """Wall seconds of one call, the device's queue emptied before and after, and processor seconds of all threads."""
    synchronize()
    start, processor_start = time.perf_counter(), time.process_time()
    work()
    synchronize()
    return time.perf_counter() - start, time.process_time() - processor_start


def synchronize() -> None:
    """Wait for the GPU, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def recording(name: str, batch_size: int, device: str, repeats: int) -> dict[str, object]:
    """A training step (forward, backward, AdamW, EMA) and a recorded one, taking turns."""
    model = build(replace(MODELS[name], class_dropout_prob=0.1), LATENTS, generator("benchmark")).to(device)
    state, process = TrainState(model, OptimConfig()), build_process(PROCESSES["ddpm"])
    x = torch.randn(batch_size, 4, 32, 32, device=device)
    y = torch.randint(1000, (batch_size,), device=device)

    def step() -> torch.Tensor:
        drawn = process.draw(x.shape, generator("benchmark", state.step, device=device))
        loss = process.loss(model, x, y, *drawn).mean()
        loss.backward()
        return loss

    def train() -> None:
        state.update(step())

    with tempfile.TemporaryDirectory() as folder:
        recorder = Recorder(Path(folder) / "roles.jsonl", tuple(range(1_000_000)))
        train()
        training, recorded = [], []
        for turn in range(repeats):
            training.append(seconds_of(train)[0])
            loss = step()
            recorded.append(seconds_of(lambda turn=turn: recorder(turn, model))[0])
            state.update(loss)
    one, other = statistics.median(training), statistics.median(recorded)
    shares = {
        str(steps): other * sum(at < steps for at in LOG_SPACED_STEPS) / (one * steps) for steps in SHARE_OVER_STEPS
    }
    return {
        "model": name,
        "batch": batch_size,
        "device": torch.cuda.get_device_name() if device == "cuda" else device,
        "training_step_seconds": one,
        "recorded_step_seconds": other,
        "share_of_training_time_by_steps": shares,
    }


def write_checkpoint(name: str, file: Path) -> None:
    """A file of the network's size with values of a Gaussian start."""
    rng = generator("benchmark", "file")
    tensors = {key: t.shape for key, t in skeleton(MODELS[name], LATENTS).state_dict().items()}
    save_tensors(file, {key: 0.02 * torch.randn(shape, generator=rng) for key, shape in tensors.items()})


def plain_read(file: Path) -> None:
    """Every byte once, through one buffer that stays in the cache of a core."""
    buffer = bytearray(READ_BYTES)
    with file.open("rb", buffering=0) as opened:
        while opened.readinto(buffer):
            pass


def drop_from_cache(file: Path) -> None:
    """Ask the kernel to forget the file's pages."""
    descriptor = os.open(file, os.O_RDONLY)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


def peak_bytes(file: Path, threads: int) -> tuple[int, int]:
    """Peak resident memory of this fresh process before and after the analysis."""
    torch.set_num_threads(threads)
    before = resident_peak()
    describe(TensorFile(file))
    return before, resident_peak()


def resident_peak() -> int:
    """Linux' VmHWM: `getrusage` would carry over the peak of the process that started this one."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def reading(name: str, threads: list[int], repeats: int) -> dict[str, object]:
    """The analysis of a whole file against the plain read of it."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.safetensors"
        write_checkpoint(name, file)
        size = file.stat().st_size
        found: dict[str, object] = {"model": name, "bytes": size}
        for cache in ("warm", "cold"):
            found[cache] = turns(file, threads, repeats, cold=cache == "cold")
        with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
            before, after = pool.apply(peak_bytes, (file, max(threads)))
    return {**found, "peak_bytes": after, "peak_bytes_before_reading": before}


def turns(file: Path, threads: list[int], repeats: int, cold: bool) -> dict[str, object]:
    """Median seconds, rates and the ratio of the analysis to the plain read."""
    size = file.stat().st_size
    contenders = {"plain read": (1, lambda: plain_read(file))}
    contenders |= {f"{n} threads": (n, lambda: describe(TensorFile(file))) for n in threads}
    taken: dict[str, list[tuple[float, float]]] = {key: [] for key in contenders}
    plain_read(file)
    for turn in range(repeats):
        for key, (num_threads, work) in contenders.items():
            torch.set_num_threads(num_threads)
            if cold:
                drop_from_cache(file)
            taken[key].append(seconds_of(work))
            print(f"turn {turn + 1}: {key} {taken[key][-1][0]:.2f} s", file=sys.stderr)
    wall, processor = ({key: statistics.median(pair[i] for pair in taken[key]) for key in taken} for i in (0, 1))
    return {
        "seconds": wall,
        "processor_seconds": processor,
        "gigabytes_per_second": {key: size / seconds / 1e9 for key, seconds in wall.items()},
        "times_a_plain_read": {key: seconds / wall["plain read"] for key, seconds in wall.items()},
    }


def main() -> None:
    """Run both and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="DiT-XL/2", help="network of the file")
    parser.add_argument("--trained", default="DiT-S/2", help="network of the training step")
    parser.add_argument("--batch", type=int, default=8, help="latents per training step (the paper: 256)")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    rows = {
        "machine": {
            "processor": processor(),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "torch": torch.__version__,
        },
        "repeats": given.repeats,
        "recording": recording(given.trained, given.batch, device, given.repeats),
        "reading": reading(given.model, given.threads, given.repeats),
    }
    print(json.dumps(rows, indent=1))


def processor() -> str:
    """The processor's own name, where Linux tells."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    return next((line.split(": ")[1] for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    main()
