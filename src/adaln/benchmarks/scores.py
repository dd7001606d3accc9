"""Scores beside their plain forms and beside the machine's matrix products.

scipy's matrix square root runs with one BLAS thread, its best case on small machines. `working_bytes` is what precision
and recall add to the two sets of features.
"""

import multiprocessing
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from importlib.util import find_spec
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import scipy
import torch
from scipy.spatial.distance import cdist
from threadpoolctl import threadpool_limits
from torch import Tensor

from adaln.benchmarks.machine import Clock, Turns, in_turns, machine, resident_bytes
from adaln.benchmarks.options import ScoreOptions
from adaln.execution import num_threads
from adaln.metrics.cmmd import SCALE, SIGMA, gaussian_mmd
from adaln.metrics.frechet import FeatureMoments, Gaussian, frechet_distance, frechet_interval
from adaln.metrics.inception import Inception, load_inception
from adaln.metrics.precision_recall import DENSITY_NEIGHBOURS, density_coverage, precision_recall
from adaln.metrics.sliced import DIRECTIONS, sliced_distance
from adaln.rng import generator

K = 3
CLOCKS: tuple[Clock, ...] = ("wall", "processor")


def scores(options: ScoreOptions) -> dict[str, Any]:
    """Seconds, ratios and values of both scores, ours and plain."""
    with num_threads(options.threads):
        return {
            "machine": machine(torch.device("cpu")) | {"scipy": scipy.__version__},
            "options": asdict(options),
            "frechet_distance": benchmark_frechet(options.dim, options.repeats),
            "precision_recall": benchmark_precision_recall(options.points, options.dim, options.repeats),
            "of_rows": benchmark_rows(options.points, options.dim, options.repeats),
            "frechet_from_rows": benchmark_frechet_from_rows(options.stored, options.dim),
            "inception": benchmark_inception(options.images, options.repeats),
        }


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
        for part in torch.split(x, 1024):
            part @ y.T


def seconds(turns: Turns) -> dict[Clock, dict[str, float]]:
    """Medians by clock."""
    return {clock: turns.median(clock) for clock in CLOCKS}


def working_bytes(points: int, dim: int) -> int:
    """Peak resident memory of precision and recall, above that of the process that holds both sets (Linux)."""
    reference, samples = features(points, dim, "reference"), features(points, dim, "samples")
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew
    before = resident_bytes("VmHWM")
    precision_recall(reference, samples)
    return resident_bytes("VmHWM") - before


def benchmark_frechet(dim: int, repeats: int) -> dict[str, object]:
    """Both forms on full-rank covariances."""
    a, b = (FeatureMoments.of(features(4 * dim, dim, key)).gaussian() for key in ("reference", "samples"))
    contenders: dict[str, Callable[[], float]] = {
        "ours": lambda: frechet_distance(a, b).value,
        "scipy sqrtm": lambda: plain_frechet(a, b),
    }
    taken = seconds(in_turns(contenders, repeats))
    return {
        "dim": dim,
        "seconds": taken,
        "values": {name: value() for name, value in contenders.items()},
        "times_faster": {clock: each["scipy sqrtm"] / each["ours"] for clock, each in taken.items()},
    }


def benchmark_precision_recall(points: int, dim: int, repeats: int) -> dict[str, object]:
    """Both forms, and the bare products."""
    reference, samples = features(points, dim, "reference"), features(points, dim, "samples")
    contenders: dict[str, Callable[[], object]] = {
        "ours": lambda: attrgetter("precision", "recall")(precision_recall(reference, samples)),
        "dense": lambda: plain_precision_recall(reference, samples),
        "products": lambda: three_products(reference, samples),
    }
    taken = seconds(in_turns(contenders, repeats))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        peak = pool.apply(working_bytes, (points, dim))
    return {
        "points": points,
        "dim": dim,
        "seconds": taken,
        "values": {name: contenders[name]() for name in ("ours", "dense")},
        "share_of_matmul_rate": {clock: each["products"] / each["ours"] for clock, each in taken.items()},
        "gigaflops": {name: 6 * points**2 * dim / each / 1e9 for name, each in taken["wall"].items()},
        "working_bytes": peak,
        "bytes_of_both_sets": 8 * points * dim,
    }


def plain_mind(reference: np.ndarray, samples: np.ndarray) -> float:
    """The usual form: all projections at once, sorted along the images."""
    lines = np.random.default_rng(0).standard_normal((reference.shape[1], DIRECTIONS))
    lines /= np.linalg.norm(lines, axis=0)
    apart = np.sort(reference @ lines, axis=0) - np.sort(samples @ lines, axis=0)
    return float(3 * reference.shape[1] * np.square(apart).mean())


def plain_cmmd(reference: np.ndarray, samples: np.ndarray) -> float:
    """The usual form: whole kernel matrices."""

    def mean_kernel(x: np.ndarray, y: np.ndarray) -> float:
        return float(np.exp(-cdist(x, y, "sqeuclidean") / (2 * SIGMA**2)).mean())

    within = mean_kernel(reference, reference) + mean_kernel(samples, samples)
    return float(SCALE * (within - 2 * mean_kernel(reference, samples)))


def plain_density_coverage(reference: np.ndarray, samples: np.ndarray) -> tuple[float, float]:
    """The usual form: whole distance matrices."""
    k = DENSITY_NEIGHBOURS
    radii = np.partition(cdist(reference, reference), k, axis=1)[:, k, None]
    inside = cdist(reference, samples) <= radii
    return float(inside.sum() / (k * len(samples))), float(inside.any(axis=1).mean())


def benchmark_rows(points: int, dim: int, repeats: int) -> dict[str, object]:
    """MIND, CMMD, density and coverage: ours, and plain numpy and scipy in float64."""
    rows = features(points, dim, "reference"), features(points, dim, "samples")
    plain = rows[0].double().numpy(), rows[1].double().numpy()

    def ours_density_coverage() -> tuple[float, float]:
        found = density_coverage(*rows)
        return float(found.balls.double().mean()) / DENSITY_NEIGHBOURS, float(found.covered.double().mean())

    pairs: dict[str, dict[str, Callable[[], object]]] = {
        "mind": {
            "ours": lambda: sliced_distance(*rows, generator("benchmark lines"))[0],
            "plain": lambda: plain_mind(*plain),
        },
        "cmmd": {"ours": lambda: gaussian_mmd(*rows)[0], "plain": lambda: plain_cmmd(*plain)},
        "density, coverage": {"ours": ours_density_coverage, "plain": lambda: plain_density_coverage(*plain)},
    }
    found: dict[str, object] = {"points": points, "dim": dim}
    for name, contenders in pairs.items():
        taken = seconds(in_turns(contenders, repeats))
        found[name] = {
            "seconds": taken,
            "values": {which: value() for which, value in contenders.items()},
            "times_faster": {clock: each["plain"] / each["ours"] for clock, each in taken.items()},
        }
    return found


def benchmark_frechet_from_rows(stored: int, dim: int) -> dict[str, object]:
    """A Frechet distance from single images' features to known statistics: moments, roots and interval."""
    rows, reference = (
        features(stored, dim, "samples"),
        FeatureMoments.of(features(4 * dim, dim, "reference")).gaussian(),
    )

    def distance() -> float:
        own = FeatureMoments.of(rows).gaussian()
        value = frechet_distance(own, reference).value
        frechet_interval(value, rows, own, reference, 200, generator("benchmark interval"))
        return value

    return {"points": stored, "dim": dim, "seconds": seconds(in_turns({"ours": distance}, 1))}


def benchmark_inception(count: int, repeats: int) -> dict[str, object]:
    """Images of 64 pixels to Inception's features, by random weights that ours and torch-fidelity's network share."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        weights = Inception().state_dict()
    images = torch.randint(256, (count, 3, 64, 64), dtype=torch.uint8, generator=generator("benchmark images"))
    contenders: dict[str, Callable[[], Tensor]] = {}
    if find_spec("torch_fidelity"):
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        with tempfile.TemporaryDirectory() as folder:
            torch.save(weights, file := Path(folder) / "weights.pth")
            peer = FeatureExtractorInceptionV3("inception", ["2048"], feature_extractor_weights_path=str(file))
        contenders["torch-fidelity"] = lambda: peer(images)[0]
    network = load_inception(weights)
    contenders["ours"] = lambda: network(images).pool
    with torch.inference_mode():
        taken = seconds(in_turns(contenders, repeats))
        features = {name: work() for name, work in contenders.items()}
    ours = features["ours"]
    return {
        "images": count,
        "images_per_second": {clock: {name: count / each for name, each in of.items()} for clock, of in taken.items()},
        "largest_difference": {
            name: float((of - ours).abs().max() / ours.abs().max()) for name, of in features.items() if name != "ours"
        },
    }
