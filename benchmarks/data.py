"""How fast training data is read, beside the peers' layout and the machine's own speed. Run: python benchmarks/data.py

Moments are 2 x 4 x 32 x 32 in half precision (16 KiB an image), as of ImageNet at 256 pixels; batches of 256, shuffled.
All files are in the page cache, so that the layouts are compared and not the disk.
"""

import argparse
import json
import shutil
import statistics
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from adaln.data import Batches, DataConfig, Latents, load
from adaln.data.autoencoder import LatentSpace
from adaln.data.finish import finish
from adaln.data.permutation import shuffled
from adaln.data.shards import Plan, open_shards, sha256_of, shard_name
from adaln.data.tensorfile import write_json, write_tensors

BATCH = 256
SHAPE = (2, 2, 4, 32, 32)


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
        tensors = {"moments": moments, "labels": np.zeros(n, np.int64), "digests": np.zeros((n, 32), np.uint8)}
        about = {"plan": plan.sha256, "skipped": [], "sha256": sha256_of(tensors), "sums": [[1.0, 0.0, 1.0]] * shape[2]}
        write_tensors(folder / shard_name(shard), tensors, {"adaln": json.dumps(about)})
    write_json(folder / "plan.json", {})
    finish(folder, plan, {0})


def seconds(work: Callable[[int], object], repeats: int) -> float:
    """Median seconds of `work(i)`."""
    times = []
    for i in range(-1, repeats):
        start = time.perf_counter()
        work(i)
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def throughput(root: Path, num_images: int, repeats: int) -> None:
    """Batches from shards, from one npy per image, and a plain copy out of a mapped file."""
    made_up_set(root / "shards", num_images, 1024, SHAPE)
    latents = load(DataConfig(str(root / "shards"), flip=True))
    assert isinstance(latents, Latents)
    (root / "npy").mkdir()
    for i in range(num_images):
        np.save(root / "npy" / f"{i}.npy", latents.moments[2 * i])
    flat = np.concatenate(latents.moments.parts[: num_images // 1024])
    flat.tofile(root / "flat.bin")
    mapped = np.asarray(np.memmap(root / "flat.bin", np.float16, "r", shape=flat.shape))
    orders = [shuffled(np.arange(BATCH * i, BATCH * (i + 1)), num_images, 0) for i in range(repeats + 1)]
    starts = [(i * BATCH) % (len(mapped) - BATCH) for i in range(repeats + 1)]

    batches = Batches(latents, BATCH, 0)
    rows = {
        "one mapped file, in order": seconds(lambda i: np.array(mapped[starts[i] :][:BATCH]), repeats),
        "one mapped file, shuffled (numpy's take)": seconds(lambda i: mapped.take(2 * orders[i], axis=0), repeats),
        "shards, shuffled": seconds(lambda i: latents.moments[2 * orders[i]], repeats),
        "one npy per image, shuffled": seconds(
            lambda i: np.stack([np.load(root / "npy" / f"{j}.npy") for j in orders[i]]), repeats
        ),
        "shards, with order, flips, noise: a batch": seconds(lambda i: batches.at(i + 1), repeats),
    }
    megabytes = BATCH * 2 * 4 * 32 * 32 * 2 / 1e6
    for name, value in rows.items():
        print(f"{name:45s} {1e3 * value:8.2f} ms  {megabytes / value:8.0f} MB/s  {BATCH / value:9.0f} images/s")
    copy, _, ours, npy, _ = rows.values()
    print(f"shards / mapped file in order: {copy / ours:.0%} (wanted: at least 60 %)")
    print(f"shards / one npy per image: {npy / ours:.1f} x (wanted: at least 5 x)")


def opening(root: Path) -> None:
    """Open an index of 1.28 million images (with rows of 2 bytes, for what counts is how many)."""
    made_up_set(root / "million", 1_281_167, 1024, (1, 2, 1, 1, 1))
    tracemalloc.start()
    start = time.perf_counter()
    shards = open_shards(root / "million")
    taken, (_, peak) = time.perf_counter() - start, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    print(
        f"index of {len(shards.rows):,} images in {len(shards.rows.parts):,} shards: {taken:.2f} s, {peak / 1e6:.0f} MB"
    )


def digits(repeats: int) -> None:
    """A batch of the demo."""
    batches = Batches(load(DataConfig(flip=True)), 64, 0)
    print(f"digits, batch of 64 with flips: {1e3 * seconds(lambda i: batches.at(i + 1), repeats):.2f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=20_480)
    parser.add_argument("--repeats", type=int, default=60)
    given = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    root = Path(tempfile.mkdtemp(prefix="adaln-benchmark-"))
    try:
        digits(given.repeats)
        throughput(root, given.images, given.repeats)
        opening(root)
    finally:
        shutil.rmtree(root)


if __name__ == "__main__":
    main()
