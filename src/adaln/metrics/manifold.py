"""Precision and recall by k-nearest-neighbour balls around the points of each set."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float32
from torch import Tensor

from adaln.metrics.distances import Distances, exact

NEIGHBOURS = 3
"""ADM's k."""
TILE = 10_000
"""ADM's block of points, within which a non-finite half-precision distance makes the whole block float32."""
ROWS = 1024
"""Rows worked on at once: with TILE columns a block of distances takes 40 MB."""


@dataclass(frozen=True, slots=True, eq=False)
class PrecisionRecall:
    """Fidelity and coverage, each with the points that were counted."""

    sample_inside: Bool[Tensor, "N"]
    """Which samples lie in at least one ball around a reference image."""
    reference_inside: Bool[Tensor, "M"]
    """Which reference images lie in at least one ball around a sample."""

    @property
    def precision(self) -> float:
        """Fraction of the samples that look like the reference."""
        return float(self.sample_inside.double().mean())

    @property
    def recall(self) -> float:
        """Fraction of the reference that the samples cover."""
        return float(self.reference_inside.double().mean())


def precision_recall(
    reference: Float32[Tensor, "M F"],
    samples: Float32[Tensor, "N F"],
    k: int = NEIGHBOURS,
    distances: Distances = exact,
) -> PrecisionRecall:
    """Improved precision and recall of `samples` against `reference`.

    A point's ball reaches to its k-th nearest neighbour within its own set; a point is inside where its distance to
    some centre of the other set is at most that centre's radius. Sets need not be of equal size. Memory is bounded by
    ROWS x TILE distances, whatever the sizes.

    Source: Kynkaanniemi et al., "Improved precision and recall metric for assessing generative models" (2019).
    """
    if k >= min(len(reference), len(samples)):
        raise ValueError(f"k={k} neighbours need more than {k} images a side, got {len(samples)} and {len(reference)}")
    reference_radii = radii(reference, k, distances)
    sample_radii = radii(samples, k, distances)
    sample_inside = torch.zeros(len(samples), dtype=torch.bool, device=samples.device)
    reference_inside = torch.zeros(len(reference), dtype=torch.bool, device=reference.device)
    for i, rows in _blocks(reference, ROWS):
        for j, columns in _blocks(samples, TILE):
            block = distances(rows, columns)
            sample_inside[j : j + len(columns)] |= (block <= reference_radii[i : i + len(rows), None]).any(dim=0)
            reference_inside[i : i + len(rows)] |= (block <= sample_radii[j : j + len(columns)]).any(dim=1)
    return PrecisionRecall(sample_inside, reference_inside)


def radii(points: Float32[Tensor, "N F"], k: int, distances: Distances = exact) -> Float32[Tensor, "N"]:
    """Squared distance of each point to its k-th nearest neighbour in its own set.

    Taken as the (k+1)-th smallest of the whole row, the point itself included, as ADM's evaluator does.
    """
    found = []
    for _, rows in _blocks(points, ROWS):
        nearest = torch.empty(len(rows), 0, device=points.device)
        for _, columns in _blocks(points, TILE):
            block = distances(rows, columns)
            smallest = block.topk(min(k + 1, block.shape[1]), dim=1, largest=False).values
            nearest = torch.cat([nearest, smallest], dim=1)
        found.append(nearest.sort(dim=1).values[:, k])
    return torch.cat(found)


def _blocks(points: Float32[Tensor, "N F"], size: int) -> list[tuple[int, Tensor]]:
    return [(start, points[start : start + size]) for start in range(0, len(points), size)]
