"""95 % intervals: what the score would do under another draw of as many samples."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

Z95 = 1.959964


@dataclass(frozen=True, slots=True)
class ScoreInterval:
    """A 95 % interval, and how it was found."""

    low: float
    high: float
    method: str


def around(value: float, std: float, method: str, floor: float = 0.0) -> ScoreInterval:
    """`value +- 1.96 std`, not below `floor`.

    Only the spread of the replicates is used, never their centre: resampling repeats points, which biases a Frechet
    distance upwards as a smaller N would.
    """
    return ScoreInterval(max(floor, value - Z95 * std), value + Z95 * std, method)


def wilson(inside: Bool[Tensor, "N"]) -> ScoreInterval:
    """Wilson's interval for a fraction of points: the closed form of resampling them with the manifold held fixed.

    Source: Wilson, "Probable inference, the law of succession, and statistical inference" (1927).
    """
    count, fraction = len(inside), float(inside.double().mean())
    centre = (fraction + Z95**2 / (2 * count)) / (1 + Z95**2 / count)
    spread = fraction * (1 - fraction) / count + (Z95 / (2 * count)) ** 2
    half = Z95 * spread**0.5 / (1 + Z95**2 / count)
    low, high = min(centre - half, fraction), max(centre + half, fraction)  # at 0 and 1 they touch, to rounding
    return ScoreInterval(max(low, 0.0), min(high, 1.0), "Wilson, manifolds fixed")


def resampling_weights(count: int, replicates: int, rng: torch.Generator) -> Float64[Tensor, "R N"]:
    """Rows of multinomial counts over N, each summing to 1: the weights of bootstrap replicates."""
    chosen = torch.randint(count, (replicates, count), generator=rng)
    weights = torch.zeros(replicates, count, dtype=torch.float64)
    return weights.scatter_add_(1, chosen, torch.ones_like(weights)) / count
