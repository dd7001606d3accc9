"""How fast training data is read, beside the peers' layout and the machine's own speed.

Moments are 2 x 4 x 32 x 32 in half precision (16 KiB an image), as of ImageNet at 256 pixels; batches of 256, shuffled.
All files are in the page cache, so that the layouts are compared and not the disk.
"""

import statistics
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch

import adaln.training.loop
from adaln.benchmarks.machine import in_turns, machine, resident_bytes
from adaln.benchmarks.options import DataOptions
from adaln.config import digits
from adaln.data import Batches, DataConfig, LatentDataset, Prefetched, load
from adaln.data.autoencoder import LatentSpace
from adaln.data.batches import Batch, shuffled
from adaln.data.shard_files import Plan, open_shards, sha256_of, shard_name, write_index, write_json, write_shard
from adaln.execution import num_threads
from adaln.runs import Run

BATCH = 256
SHAPE = (2, 2, 4, 32, 32)
ROW_BYTES = 2 * 4 * 32 * 32 * 2


def data(options: DataOptions) -> dict[str, Any]:
    """Batches from every layout, the opening of a large set, and what a training step waits for its batch."""
    with num_threads(options.threads), tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        return {
            "machine": machine(torch.device("cpu")),
            "options": asdict(options),
            "reading": reading(root, options.images, options.repeats),
            "opening": opening(root),
            "waiting": waiting(root, options.steps),
        }


def made_up_set(folder: Path, num_images: int, shard_rows: int, shape: tuple[int, ...]) -> None:
    """A set of random moments, in the files that `encode` writes."""
    space = LatentSpace("made up", "0" * 64, 0.18215, 0.0)
    plan = Plan(
        "made up", "0" * 64, num_images, ("a",), 256, (3, 256, 256), "stop", "none", shard_rows, shape[0], space
    )
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for shard in range(plan.num_shards):
        n = min(shard_rows, num_images - shard * shard_rows)
        moments = rng.standard_normal((n, *shape), np.float32).astype(np.float16)
        tensors: dict[str, np.ndarray] = {
            "moments": moments,
            "labels": np.zeros(n, np.int64),
            "digests": np.zeros((n, 32), np.uint8),
        }
        about = {"skipped": [], "sha256": sha256_of(tensors), "sums": [[1.0, 0.0, 1.0]] * shape[2]}
        write_shard(folder / shard_name(shard), plan, tensors, about)
    write_json(folder / "plan.json", {})
    write_index(folder, plan, {0}, "")


def reading(root: Path, num_images: int, repeats: int) -> dict[str, Any]:
    """Batches from shards, from one npy per image, and plain copies out of a mapped file."""
    made_up_set(root / "shards", num_images, 1024, SHAPE)
    latents = load(DataConfig(str(root / "shards"), flip=True))
    assert isinstance(latents, LatentDataset)
    (root / "npy").mkdir()
    for i in range(num_images):
        np.save(root / "npy" / f"{i}.npy", latents.moments[2 * i])
    np.concatenate(latents.moments.parts).tofile(root / "flat.bin")
    mapped = np.asarray(np.memmap(root / "flat.bin", np.float16, "c", shape=latents.moments.shape))
    tensor = torch.from_numpy(mapped)
    orders = [shuffled(np.arange(BATCH * i, BATCH * (i + 1)), num_images, 0) for i in range(repeats + 1)]
    starts = [(2 * i * BATCH) % (len(mapped) - 2 * BATCH) for i in range(repeats + 1)]
    batches = Batches(latents, BATCH, 0)
    works: dict[str, Callable[[int], object]] = {
        "one mapped file, in order (numpy)": lambda i: np.array(mapped[starts[i] :][:BATCH]),
        "one mapped file, in order (torch)": lambda i: tensor[starts[i] + BATCH :][:BATCH].clone(),
        "one mapped file, shuffled (numpy)": lambda i: mapped.take(2 * orders[i], axis=0),
        "shards, shuffled": lambda i: latents.moments[2 * orders[i]],
        "one npy per image, shuffled": lambda i: np.stack([np.load(root / "npy" / f"{j}.npy") for j in orders[i]]),
        "shards, with order, flips and noise: a batch": lambda i: batches.at(i + 1),
    }
    turns = in_turns({name: partial(next, map(work, count())) for name, work in works.items()}, repeats)
    return {"images": num_images, "turns": repeats, "median": rates(turns.median()), "least": rates(turns.least())}


def rates(taken: dict[str, float]) -> dict[str, Any]:
    """Seconds per batch in other words, beside what is wanted."""
    in_order = min(value for name, value in taken.items() if "in order" in name)
    ours, npy = taken["shards, shuffled"], taken["one npy per image, shuffled"]
    return {
        "milliseconds": {name: 1e3 * value for name, value in taken.items()},
        "megabytes_per_second": {name: BATCH * ROW_BYTES / 1e6 / value for name, value in taken.items()},
        "share_of_reading_in_order": in_order / ours,
        "wanted_share": 0.6,
        "times_faster_than_one_npy_per_image": npy / ours,
        "wanted_times_faster": 5,
    }


def opening(root: Path) -> dict[str, float]:
    """Open an index of 1.28 million images (with rows of 2 bytes, for what counts is how many)."""
    made_up_set(root / "million", 1_281_167, 1024, (1, 2, 1, 1, 1))
    tracemalloc.start()
    before, start = resident_bytes(), time.perf_counter()
    shards = open_shards(root / "million")
    taken, (_, peak) = time.perf_counter() - start, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return {
        "images": len(shards.labels),
        "shards": len(shards.rows.parts),
        "seconds": taken,
        "wanted_seconds": 2,
        "allocated_megabytes": peak / 1e6,
        "resident_megabytes": (resident_bytes() - before) / 1e6,
        "wanted_megabytes": 200,
    }


def waiting(root: Path, steps: int) -> dict[str, dict[str, float]]:
    """How long a step of `adaln train digits` waits for its batch: made ahead, and made when it is asked for."""
    found = {}
    for name, ahead in (("made ahead", 2), ("made when asked for", None)):
        waits: list[float] = []

        class Timed(Prefetched):
            def at(self, step: int, ahead: int | None = ahead, waits: list[float] = waits) -> Batch:
                start = time.perf_counter()
                batch = super().at(step) if ahead is not None else self.batches.at(step)
                waits.append(time.perf_counter() - start)
                return batch

        adaln.training.loop.Prefetched = Timed  # type: ignore[attr-defined]
        run = Run.create(replace(digits(), steps=steps, checkpoint_every=steps), out=root / name)
        start = time.perf_counter()
        adaln.training.loop.train(run)
        step_ms = 1e3 * (time.perf_counter() - start) / steps
        wait_ms = 1e3 * statistics.median(waits)
        found[name] = {
            "step_milliseconds": step_ms,
            "wait_milliseconds": wait_ms,
            "longest_but_1_percent_milliseconds": 1e3 * sorted(waits)[int(0.99 * len(waits))],
            "share_of_step": wait_ms / step_ms,
        }
    return found
