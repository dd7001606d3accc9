"""95 % intervals: what the score would do under another draw of as many samples."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from adaln.metrics.frechet import frechet_distance, frechet_influence
from adaln.metrics.inception_score import split_score
from adaln.metrics.moments import Gaussian

Z95 = 1.959964
BOOTSTRAP_DIM = 128
"""Above this many features a bootstrap replicate costs too much; the infinitesimal jackknife does not."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A 95 % interval, and how it was found."""

    low: float
    high: float
    method: str


def around(value: float, std: float, method: str, floor: float = 0.0) -> Interval:
    """`value +- 1.96 std`, not below `floor`.

    Only the spread of the replicates is used, never their centre: resampling repeats points, which biases a Frechet
    distance upwards as a smaller N would.
    """
    return Interval(max(floor, value - Z95 * std), value + Z95 * std, method)


def wilson(inside: Bool[Tensor, "N"]) -> Interval:
    """Wilson's interval for a fraction of points: the closed form of resampling them with the manifold held fixed.

    Source: Wilson, "Probable inference, the law of succession, and statistical inference" (1927).
    """
    count, fraction = len(inside), float(inside.double().mean())
    centre = (fraction + Z95**2 / (2 * count)) / (1 + Z95**2 / count)
    spread = fraction * (1 - fraction) / count + (Z95 / (2 * count)) ** 2
    half = Z95 * spread**0.5 / (1 + Z95**2 / count)
    low, high = min(centre - half, fraction), max(centre + half, fraction)  # at 0 and 1 they touch, to rounding
    return Interval(max(low, 0.0), min(high, 1.0), "Wilson, manifolds fixed")


def resampling_weights(count: int, replicates: int, rng: torch.Generator) -> Float64[Tensor, "R N"]:
    """Rows of multinomial counts over N, each summing to 1: the weights of bootstrap replicates."""
    chosen = torch.randint(count, (replicates, count), generator=rng)
    weights = torch.zeros(replicates, count, dtype=torch.float64)
    return weights.scatter_add_(1, chosen, torch.ones_like(weights)) / count


def frechet_interval(
    value: float,
    rows: Float[Tensor, "N F"],
    own: Gaussian,
    reference: Gaussian,
    replicates: int,
    rng: torch.Generator,
) -> Interval:
    """The interval of a Frechet distance from the rows' `own` Gaussian to a reference that is held fixed.

    Up to 128 features by the bootstrap: each replicate reweights mean and covariance. Above, by the infinitesimal
    jackknife: the variance of the influence values over N, one pass over the rows; it misses the second-order part of
    the noise, which matters only where the distance is close to its own bias.
    """
    if rows.shape[1] > BOOTSTRAP_DIM:
        influence = frechet_influence(rows, own, reference)
        return around(value, float(influence.std() / len(rows) ** 0.5), "infinitesimal jackknife, reference fixed")
    rows = rows.to(torch.float64)
    distances = []
    for _ in range(replicates):
        weights = resampling_weights(len(rows), 1, rng)[0]
        distances.append(frechet_distance(weighted_gaussian(rows, weights), reference).value)
    return around(value, _std(distances), f"bootstrap of {replicates}, reference fixed")


def weighted_gaussian(rows: Float64[Tensor, "N F"], weights: Float64[Tensor, "N"]) -> Gaussian:
    """Mean and unbiased covariance under weights that sum to 1."""
    mean = weights @ rows
    centred = rows - mean
    covariance = centred.T @ (centred * weights[:, None])
    return Gaussian(mean, covariance * (len(rows) / (len(rows) - 1)))


def inception_score_interval(
    value: float, probs: Float[Tensor, "N K"], split_size: int, replicates: int, rng: torch.Generator
) -> Interval:
    """The bootstrap interval of an Inception Score: samples are redrawn within each split."""
    splits = []
    for split in torch.split(probs, split_size):
        splits.append(split_score(split, resampling_weights(len(split), replicates, rng)))
    return around(value, float(torch.stack(splits).mean(dim=0).std()), f"bootstrap of {replicates}", floor=1.0)


def _std(values: list[float]) -> float:
    return float(torch.tensor(values, dtype=torch.float64).std())
