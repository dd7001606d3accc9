"""Frechet distance and precision/recall against their plain forms and against the machine's matrix products.

    OMP_NUM_THREADS=1 python benchmarks/scores.py [--dim 2048] [--points 10000] [--repeats 3] > scores.json

The contenders take turns, so that a change of the machine's load hits all of them; medians are reported, of the wall
clock and of the processor's time (which a busy machine disturbs less). scipy's matrix square root runs with one BLAS
thread, its best case on small machines. `working_bytes` is what precision and recall add to the two sets of features.
"""

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import scipy
import torch
from threadpoolctl import threadpool_limits

from adaln.metrics.frechet import frechet_distance
from adaln.metrics.manifold import PrecisionRecall, precision_recall
from adaln.metrics.moments import Gaussian, Moments
from adaln.rng import generator

K = 3


def features(count: int, dim: int, key: str) -> torch.Tensor:
    """Non-negative rows of 24 correlated factors plus noise, about as Inception's pool features are."""
    factors = torch.randn(24, dim, generator=generator("benchmark factors")) * 0.3
    rng = generator("benchmark rows", key)
    rows = 0.3 + torch.randn(count, 24, generator=rng) @ factors / 3 + 0.12 * torch.randn(count, dim, generator=rng)
    return rows.relu_()


def plain_frechet(a: Gaussian, b: Gaussian) -> float:
    """The usual form: scipy's Schur square root of the product of the covariances."""
    with threadpool_limits(1):
        root = scipy.linalg.sqrtm(a.covariance.numpy() @ b.covariance.numpy())
    mean_term = float((a.mean - b.mean).square().sum())
    return mean_term + float(a.covariance.trace() + b.covariance.trace()) - 2 * float(np.trace(root).real)


def plain_precision_recall(reference: torch.Tensor, samples: torch.Tensor) -> tuple[float, float]:
    """The usual form: whole distance matrices."""
    radii = [squared_distances(x, x).kthvalue(K + 1, dim=1).values for x in (reference, samples)]
    cross = squared_distances(samples, reference)
    precision = (cross <= radii[0]).any(dim=1).double().mean()
    return float(precision), float((cross <= radii[1][:, None]).any(dim=0).double().mean())


def squared_distances(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """All pairs at once, in float32."""
    return (x.square().sum(1)[:, None] - 2 * x @ y.T + y.square().sum(1)).clamp(min=0)


def three_products(reference: torch.Tensor, samples: torch.Tensor) -> None:
    """The matrix products that precision and recall cannot do without, in blocks of 1024 rows, and nothing else."""
    for x, y in ((reference, reference), (samples, samples), (reference, samples)):
        for part in x.split(1024):
            part @ y.T


def in_turns(contenders: dict[str, Callable[[], object]], repeats: int) -> tuple[dict[str, dict[str, float]], dict]:
    """Median seconds on the wall and of the processor, and last result of each."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
    results: dict[str, object] = {}
    for turn in range(repeats):
        for name, run in contenders.items():
            wall, cpu = time.perf_counter(), time.process_time()
            results[name] = run()
            taken[name].append((time.perf_counter() - wall, time.process_time() - cpu))
            print(f"turn {turn + 1}: {name} {taken[name][-1][0]:.2f} s", file=sys.stderr)
    seconds = {
        clock: {name: statistics.median(times[column] for times in each) for name, each in taken.items()}
        for column, clock in enumerate(("wall", "cpu"))
    }
    return seconds, results


def working_bytes(points: int, dim: int) -> int:
    """Peak resident memory of precision and recall, above that of the process that holds both sets (Linux)."""
    reference, samples = features(points, dim, "reference"), features(points, dim, "samples")
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew
    before = resident_bytes("VmHWM")
    precision_recall(reference, samples)
    return resident_bytes("VmHWM") - before


def resident_bytes(key: str) -> int:
    """A line of /proc/self/status, in bytes."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) * 1024


def benchmark_frechet(dim: int, repeats: int) -> dict[str, object]:
    """Both forms on full-rank covariances."""
    a, b = (Moments.of(features(4 * dim, dim, key)).gaussian() for key in ("reference", "samples"))
    contenders = {"ours": lambda: frechet_distance(a, b).value, "scipy sqrtm": lambda: plain_frechet(a, b)}
    seconds, values = in_turns(contenders, repeats)
    return {
        "dim": dim,
        "seconds": seconds,
        "values": values,
        "times_faster": {clock: each["scipy sqrtm"] / each["ours"] for clock, each in seconds.items()},
    }


def benchmark_precision_recall(points: int, dim: int, repeats: int) -> dict[str, object]:
    """Both forms, and the bare products."""
    reference, samples = features(points, dim, "reference"), features(points, dim, "samples")
    found = {
        "ours": lambda: fractions(precision_recall(reference, samples)),
        "dense": lambda: plain_precision_recall(reference, samples),
        "products": lambda: three_products(reference, samples),
    }
    seconds, values = in_turns(found, repeats)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        peak = pool.apply(working_bytes, (points, dim))
    return {
        "points": points,
        "dim": dim,
        "seconds": seconds,
        "values": values,
        "share_of_matmul_rate": {clock: each["products"] / each["ours"] for clock, each in seconds.items()},
        "gigaflops": {name: 6 * points**2 * dim / taken / 1e9 for name, taken in seconds["wall"].items()},
        "working_bytes": peak,
        "bytes_of_both_sets": 8 * points * dim,
    }


def fractions(found: PrecisionRecall) -> tuple[float, float]:
    """Precision and recall."""
    return found.precision, found.recall


def processor() -> str:
    """The processor's own name (Linux), else its architecture."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def main() -> None:
    """Run both and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dim", type=int, default=2048)
    parser.add_argument("--points", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    load_before = os.getloadavg()
    machine = {
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "scipy": scipy.__version__,
    }
    rows: dict[str, object] = {
        "command": " ".join([f"OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', '')} python", *sys.argv]),
        "machine": machine,
        "repeats": given.repeats,
        "frechet_distance": benchmark_frechet(given.dim, given.repeats),
        "precision_recall": benchmark_precision_recall(given.points, given.dim, given.repeats),
    }
    rows["load_average"] = {"before": load_before[0], "after": os.getloadavg()[0]}
    print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
