"""Precision and recall by k-nearest-neighbour balls around the points of each set."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float32
from torch import Tensor

from adaln.metrics.distances import TILE, Blocks, exact_blocks

NEIGHBOURS = 3
"""ADM's k."""


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
    blocks: Blocks = exact_blocks,
) -> PrecisionRecall:
    """Improved precision and recall of `samples` against `reference`.

    A point's ball reaches to its k-th nearest neighbour within its own set; a point is inside where its distance to
    some centre of the other set is at most that centre's radius. Sets need not be of equal size. Only one block of
    distances is in memory, whatever the sizes.

    Source: Kynkaanniemi et al., "Improved precision and recall metric for assessing generative models" (2019).
    """
    if k >= min(len(reference), len(samples)):
        raise ValueError(f"k={k} neighbours need more than {k} images a side, got {len(samples)} and {len(reference)}")
    reference_radii, sample_radii = radii(reference, k, blocks), radii(samples, k, blocks)
    sample_inside = torch.zeros(len(samples), dtype=torch.bool, device=samples.device)
    reference_inside = torch.zeros(len(reference), dtype=torch.bool, device=reference.device)
    for i in range(0, len(reference), TILE):
        for j in range(0, len(samples), TILE):
            columns = slice(j, j + TILE)
            for start, block in blocks(reference[i : i + TILE], samples[columns]):
                rows = slice(i + start, i + start + len(block))
                sample_inside[columns] |= (block <= reference_radii[rows, None]).any(dim=0)
                reference_inside[rows] |= (block <= sample_radii[columns]).any(dim=1)
    return PrecisionRecall(sample_inside, reference_inside)


def radii(points: Float32[Tensor, "N F"], k: int, blocks: Blocks = exact_blocks) -> Float32[Tensor, "N"]:
    """Squared distance of each point to its k-th nearest neighbour in its own set.

    Taken as the (k+1)-th smallest of the whole row, the point itself included, as ADM's evaluator does.
    """
    nearest = torch.full((len(points), k + 1), float("inf"), device=points.device)
    for i in range(0, len(points), TILE):
        for j in range(0, len(points), TILE):
            for start, block in blocks(points[i : i + TILE], points[j : j + TILE]):
                rows = slice(i + start, i + start + len(block))
                found = block.topk(min(k + 1, block.shape[1]), dim=1, largest=False).values
                nearest[rows] = torch.cat([nearest[rows], found], dim=1).topk(k + 1, dim=1, largest=False).values
    return nearest.amax(dim=1)
