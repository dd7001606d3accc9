"""Squared Euclidean distances between feature rows: as they are, and as ADM's evaluator rounds them."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Float32
from torch import Tensor

Rows = Float32[Tensor, "_ F"]
Distances = Callable[[Tensor, Tensor], Tensor]
"""(n, F) and (m, F) float32 rows -> (n, m) squared distances, never negative."""

HALF_MAX = 65504.0
PUBLISHED_WIDTH = 2048
LANES = 32


def exact(rows: Float32[Tensor, "N F"], columns: Float32[Tensor, "M F"]) -> Float32[Tensor, "N M"]:
    """`max(|u|^2 - 2 u.v + |v|^2, 0)` in float32: one matrix product and little else."""
    products = torch.addmm(columns.square().sum(dim=1), rows, columns.T, alpha=-2.0)
    return products.add_(rows.square().sum(dim=1)[:, None]).clamp_(min=0.0)


def as_published(rows: Float32[Tensor, "N 2048"], columns: Float32[Tensor, "M 2048"]) -> Float32[Tensor, "N M"]:
    """The same in half precision with every rounding of ADM's evaluator on a CPU; defined for its width, 2048.

    Inputs, squares, norms, products and both sums are rounded to half; the inner product is accumulated in float32.
    At norms near 300 the grid is 0.25..0.5 wide, so ties are common. A block with a non-finite entry is computed in
    float32 instead, as a whole. GPUs add in another order: published numbers carry about 0.01 of such noise.

    Source: ADM's evaluator run under TensorFlow 2.21 on a CPU; rounding found by comparison, see `tests/goldens`.
    """
    distances = _half_distances(rows, columns)
    return distances if bool(torch.isfinite(distances).all()) else exact(rows, columns)


def _half_distances(rows: Rows, columns: Rows) -> Float32[Tensor, "N M"]:
    u, v = _half(rows), _half(columns)
    distances = _half(_half(u @ v.T).mul_(-2.0))
    distances = _half(distances.add_(half_norms(u)[:, None]))
    return _half(distances.add_(half_norms(v))).clamp_(min=0.0)


def half_norms(rows: Float32[Tensor, "N 2048"]) -> Float32[Tensor, "N"]:
    """`|u|^2` as a half-precision vector unit adds it up: two halves of the row, each in 32 lanes.

    Each lane adds its squares in order in half precision; the four groups of eight lanes are then added in order, in
    half; the eight sums in float32, rounded to half; at last the two halves of the row.
    """
    if rows.shape[1] != PUBLISHED_WIDTH:
        raise ValueError(f"half-precision distances are published for {PUBLISHED_WIDTH} features, got {rows.shape[1]}")
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


def _half(values: Float[Tensor, "*shape"]) -> Float32[Tensor, "*shape"]:
    """Rounded to half precision and held in float32, where sums of two halves are exact before the next rounding."""
    return values.to(torch.float16).to(torch.float32)
