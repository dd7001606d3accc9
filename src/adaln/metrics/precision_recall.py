"""Precision, recall, density and coverage by k-nearest-neighbour balls around the points of each set.

Distances are squared and Euclidean, as they are or as ADM's evaluator rounds them. Both come as blocks of a tile (at
most TILE x TILE points), so that no whole distance matrix is ever in memory.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float32, Int64
from torch import Tensor

NEIGHBOURS = 3
"""ADM's k."""
DENSITY_NEIGHBOURS = 5
"""The k of density and coverage."""
TILE = 10_000
"""ADM's block of points: one half-precision overflow among them makes the whole tile float32."""
ROWS = 1024
"""Rows worked on at once: with TILE columns a block of distances takes 40 MB."""
Blocks = Callable[[Tensor, Tensor], Iterator[tuple[int, Tensor]]]
"""Two tiles of float32 rows -> (first row, distances of ROWS rows to all columns), in order; never negative."""

PUBLISHED_WIDTH = 2048
LANES = 32
SAFE_HALF = 60_000.0
"""Distances bounded by this cannot overflow half precision (65,504), rounding of the norms included."""


def exact_blocks(rows: Float32[Tensor, "N F"], columns: Float32[Tensor, "M F"]) -> Iterator[tuple[int, Tensor]]:
    """`max(|u|^2 - 2 u.v + |v|^2, 0)` in float32: one matrix product and little else."""
    norms, column_norms = _norms(rows), _norms(columns)
    for start in range(0, len(rows), ROWS):
        part = slice(start, start + ROWS)
        products = torch.addmm(column_norms, rows[part], columns.T, alpha=-2.0)
        yield start, products.add_(norms[part, None]).clamp_(min=0.0)


def published_blocks(rows: Float32[Tensor, "N F"], columns: Float32[Tensor, "M F"]) -> Iterator[tuple[int, Tensor]]:
    """The same in half precision with every rounding of ADM's evaluator on a CPU; defined for its width, 2048.

    Inputs, squares, norms, products and both sums are rounded to half; the inner product is accumulated in float32.
    At norms near 300 the grid is 0.25..0.5 wide, so ties are common. A tile with a non-finite entry is computed in
    float32 instead, as a whole. GPUs add in another order: published numbers carry about 0.01 of such noise.

    Source: ADM's evaluator run under TensorFlow 2.21 on a CPU, reproduced point by point (`tests/goldens/metrics`).
    """
    if rows.shape[1] != PUBLISHED_WIDTH:
        raise ValueError(f"half-precision distances are published for {PUBLISHED_WIDTH} features, got {rows.shape[1]}")
    return exact_blocks(rows, columns) if _overflows(rows, columns) else _half_blocks(rows, columns)


def half_norms(rows: Float32[Tensor, "N F"]) -> Float32[Tensor, "N"]:
    """`|u|^2` as a half-precision vector unit adds it up: two halves of the row, each in 32 lanes.

    Each lane adds its squares in order in half precision; the four groups of eight lanes are then added in order, in
    half; the eight sums in float32, rounded to half; at last the two halves of the row.
    """
    squares = _half(_half(rows).square()).reshape(len(rows), 2, -1, LANES)
    lanes = torch.zeros_like(squares[:, :, 0])
    for step in range(squares.shape[2]):
        lanes = _half(lanes + squares[:, :, step])
    groups = lanes.reshape(len(rows), 2, 4, 8)
    eight = groups[:, :, 0]
    for group in range(1, 4):
        eight = _half(eight + groups[:, :, group])
    halves = _half(eight.sum(dim=-1))
    return _half(halves[:, 0] + halves[:, 1])


def _half_blocks(rows: Float32[Tensor, "N F"], columns: Float32[Tensor, "M F"]) -> Iterator[tuple[int, Tensor]]:
    norms, column_norms, columns = half_norms(rows), half_norms(columns), _half(columns)
    for start in range(0, len(rows), ROWS):
        part = slice(start, start + ROWS)
        distances = _half(_half(_half(rows[part]) @ columns.T).mul_(-2.0))
        distances = _half(distances.add_(norms[part, None]))
        yield start, _half(distances.add_(column_norms)).clamp_(min=0.0)


def _overflows(rows: Float32[Tensor, "N F"], columns: Float32[Tensor, "M F"]) -> bool:
    """Whether a half-precision distance of the tile is not finite; looked for only where the norms leave it open."""
    largest = float(_norms(rows).max().sqrt() + _norms(columns).max().sqrt()) ** 2
    if largest < SAFE_HALF:
        return False
    return any(not bool(torch.isfinite(block).all()) for _, block in _half_blocks(rows, columns))


def _norms(rows: Float32[Tensor, "N F"]) -> Float32[Tensor, "N"]:
    return torch.sum(rows.square(), dim=1)  # pairwise sums: a dot product would lose a digit


def _half(values: Float[Tensor, "*shape"]) -> Float32[Tensor, "*shape"]:
    """Rounded to half precision and held in float32, where sums of two halves are exact before the next rounding."""
    return values.to(torch.float16).to(torch.float32)


def centred(
    reference: Float32[Tensor, "M F"], samples: Float32[Tensor, "N F"]
) -> tuple[Float32[Tensor, "M F"], Float32[Tensor, "N F"]]:
    """Both less the reference's mean: distances stay, and float32's digits go to what tells the sides apart."""
    centre = reference.mean(dim=0)
    return reference - centre, samples - centre


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
    if blocks is exact_blocks:
        reference, samples = centred(reference, samples)
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


@dataclass(frozen=True, slots=True, eq=False)
class DensityCoverage:
    """Fidelity and variety by the balls around the reference images alone: no outlier among the samples moves them."""

    balls: Int64[Tensor, "N"]
    """In how many balls around a reference image each sample lies."""
    covered: Bool[Tensor, "M"]
    """Which reference images have a sample in their ball."""


def density_coverage(
    reference: Float32[Tensor, "M F"], samples: Float32[Tensor, "N F"], k: int = DENSITY_NEIGHBOURS
) -> DensityCoverage:
    """Density (the mean of `balls / k`) and coverage (the mean of `covered`) of `samples` against `reference`.

    A ball reaches to the k-th nearest neighbour within the reference.

    Source: Naeem et al., "Reliable fidelity and diversity metrics for generative models" (2020).
    """
    if k >= len(reference):
        raise ValueError(f"k={k} neighbours need more than {k} reference images, got {len(reference)}")
    reference, samples = centred(reference, samples)
    reach = radii(reference, k)
    balls = torch.zeros(len(samples), dtype=torch.int64, device=samples.device)
    covered = torch.zeros(len(reference), dtype=torch.bool, device=reference.device)
    for i in range(0, len(reference), TILE):
        for j in range(0, len(samples), TILE):
            for start, block in exact_blocks(reference[i : i + TILE], samples[j : j + TILE]):
                rows = slice(i + start, i + start + len(block))
                inside = block <= reach[rows, None]
                balls[j : j + TILE] += inside.sum(dim=0)
                covered[rows] |= inside.any(dim=1)
    return DensityCoverage(balls, covered)


def radii(points: Float32[Tensor, "N F"], k: int, blocks: Blocks = exact_blocks) -> Float32[Tensor, "N"]:
    """Squared distance of each point to its k-th nearest neighbour in its own set.

    Taken as the (k+1)-th smallest of the whole row, the point itself included, as ADM's evaluator does.
    """
    nearest = torch.full((len(points), k + 1), float("inf"), device=points.device)
    for i in range(0, len(points), TILE):
        for j in range(0, len(points), TILE):
            for start, block in blocks(points[i : i + TILE], points[j : j + TILE]):
                rows = slice(i + start, i + start + len(block))
                closest = block.topk(min(k + 1, block.shape[1]), dim=1, largest=False).values
                nearest[rows] = torch.cat([nearest[rows], closest], dim=1).topk(k + 1, dim=1, largest=False).values
    return nearest.amax(dim=1)
