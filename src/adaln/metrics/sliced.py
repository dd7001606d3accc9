"""MIND: how far two sets of features lie apart along random lines, where optimal transport is no more than sorting."""

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float32, Float64
from torch import Tensor

from adaln.metrics.intervals import ScoreInterval, around
from adaln.metrics.precision_recall import centred

DIRECTIONS = 1000
"""Random lines of the published score."""
CHUNK = 128
"""Lines that are worked on at once: 5 MB a side for 10,000 images."""


def sliced_distance(
    reference: Float32[Tensor, "M F"], samples: Float32[Tensor, "N F"], rng: torch.Generator
) -> tuple[float, ScoreInterval]:
    """The Monge Inception Distance, `3 F` times the mean over lines of the squared Wasserstein-2 distance; interval.

    Of the larger side as many rows are drawn as the smaller one has. The interval is the infinitesimal jackknife: how
    the distance answers to the weight of each sample is its Kantorovich potential, averaged over the lines.

    Source: Berthet et al., "MIND: Monge Inception Distance for Generative Models Evaluation" (2026).
    """
    count, dim = min(len(reference), len(samples)), samples.shape[1]
    drawn = (rows[torch.randperm(len(rows), generator=rng)[:count]] for rows in (reference, samples))
    reference, samples = centred(*drawn)
    total, influence = 0.0, np.zeros(count)
    for lines in _directions(dim, rng):
        target = np.sort((lines @ reference.T).numpy(), axis=1)
        projected = (lines @ samples.T).numpy()
        order = np.argsort(projected, axis=1)
        source = np.take_along_axis(projected, order, axis=1)
        total += float(np.square(source - target, dtype=np.float64).sum())
        potential = np.empty(order.shape)
        np.put_along_axis(potential, order, _potential(source, target), axis=1)
        influence += potential.sum(axis=0)
    scale = 3 * dim / DIRECTIONS
    value, std = scale * total / count, float(scale * influence.std(ddof=1) / count**0.5)
    return value, around(value, std, "infinitesimal jackknife, reference fixed")


def _directions(dim: int, rng: torch.Generator) -> Iterator[Float32[Tensor, "L F"]]:
    """Directions on the sphere, a chunk at a time."""
    for start in range(0, DIRECTIONS, CHUNK):
        lines = torch.randn(min(CHUNK, DIRECTIONS - start), dim, generator=rng)
        yield lines / lines.norm(dim=1, keepdim=True)


def _potential(source: Float32[np.ndarray, "L N"], target: Float32[np.ndarray, "L N"]) -> Float64[np.ndarray, "L N"]:
    """The Kantorovich potential of the cost (x - y)^2 at each sorted x, for y sorted alike; its mean is 0 on each line.

    Its slope is `2 (x - y)`, with the mean of both neighbours' y between two x.
    """
    steps = np.diff(source) * (source[:, 1:] + source[:, :-1] - target[:, 1:] - target[:, :-1]).astype(np.float64)
    potential = np.pad(np.cumsum(steps, axis=1), ((0, 0), (1, 0)))
    centred: np.ndarray = potential - potential.mean(axis=1, keepdims=True)
    return centred
