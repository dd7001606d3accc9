"""The Kernel Inception Distance, a maximum mean discrepancy that is unbiased at any number of images; and the Inception
Score: how sure the classifier is of each image, and how many classes it is sure of overall."""

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from adaln.metrics.intervals import ScoreInterval, around, resampling_weights

SUBSETS, SUBSET_SIZE = 100, 1000
SPLIT_SIZE = 5000
"""ADM's: 50,000 images make ten splits, in file order."""


def kernel_distance(
    reference: Float[Tensor, "M F"], samples: Float[Tensor, "N F"], rng: torch.Generator
) -> tuple[float, ScoreInterval]:
    """Unbiased squared MMD under the kernel `(x.y / F + 1)^3`, averaged over random subsets of both sets; its interval.

    Subsets are drawn without replacement and hold `SUBSET_SIZE` rows, or half of the smaller set where that is less
    (else all subsets would be the same and their spread would say nothing). Can be negative near 0. The standard error
    is the spread over subsets of m rows, scaled by sqrt(m / n) to all n samples.

    Source: Binkowski et al., "Demystifying MMD GANs" (2018), section 4.
    """
    smaller = min(len(reference), len(samples))
    size = min(SUBSET_SIZE, smaller // 2)
    if size < 2:
        raise ValueError(f"KID needs at least 4 images a side, got {len(samples)} and {len(reference)}")
    values = []
    for _ in range(SUBSETS):
        x = reference[torch.randperm(len(reference), generator=rng)[:size]].to(torch.float64)
        y = samples[torch.randperm(len(samples), generator=rng)[:size]].to(torch.float64)
        values.append(squared_mmd(x, y))
    distances = torch.stack(values)
    value, std = float(distances.mean()), float(distances.std() * (size / smaller) ** 0.5)
    return value, around(value, std, f"spread of subsets of {size}, scaled to N", floor=float("-inf"))


def squared_mmd(x: Float64[Tensor, "M F"], y: Float64[Tensor, "N F"]) -> Float64[Tensor, ""]:
    """`mean_{i != j} k(x_i, x_j) + mean_{i != j} k(y_i, y_j) - 2 mean k(x_i, y_j)`."""
    within = _mean_off_diagonal(_kernel(x, x)) + _mean_off_diagonal(_kernel(y, y))
    return within - 2 * _kernel(x, y).mean()


def _kernel(x: Float64[Tensor, "M F"], y: Float64[Tensor, "N F"]) -> Float64[Tensor, "M N"]:
    return (x @ y.T / x.shape[1] + 1) ** 3


def _mean_off_diagonal(kernel: Float64[Tensor, "N N"]) -> Float64[Tensor, ""]:
    count = len(kernel)
    return (kernel.sum() - kernel.trace()) / (count * (count - 1))


def inception_score(probs: Float[Tensor, "N K"], split_size: int = SPLIT_SIZE) -> float:
    """Mean over splits of `exp(mean_i KL(p_i || mean_j p_j))`.

    Splits are taken in file order without shuffling; a last short split counts as much as the others, as in ADM's
    evaluator. A probability that underflowed to 0 adds 0, the limit of `p log p` (ADM's formula gives NaN there).

    Source: Salimans et al., "Improved techniques for training GANs" (2016), section 4; ADM's evaluator.
    """
    splits = [split_score(split) for split in torch.split(probs, split_size)]
    return float(torch.stack(splits).mean())


def split_score(probs: Float[Tensor, "N K"], weights: Float64[Tensor, "*R N"] | None = None) -> Float64[Tensor, "*R"]:
    """`exp(H(mean p) - mean H(p))` of one split, which equals `exp(mean KL)`; one value per row of weights.

    `weights` (rows summing to 1) replace the plain mean: a bootstrap replicate is a row of multinomial counts / N.
    """
    probs = probs.to(torch.float64)
    if weights is None:
        weights = torch.full((len(probs),), 1 / len(probs), dtype=torch.float64, device=probs.device)
    entropy_of_mean = torch.special.entr(weights @ probs).sum(dim=-1)
    mean_entropy = weights @ torch.special.entr(probs).sum(dim=-1)
    return torch.exp(entropy_of_mean - mean_entropy)


def inception_score_interval(
    value: float, probs: Float[Tensor, "N K"], split_size: int, replicates: int, rng: torch.Generator
) -> ScoreInterval:
    """The bootstrap interval of an Inception Score: samples are redrawn within each split."""
    splits = []
    for split in torch.split(probs, split_size):
        splits.append(split_score(split, resampling_weights(len(split), replicates, rng)))
    return around(value, float(torch.stack(splits).mean(dim=0).std()), f"bootstrap of {replicates}", floor=1.0)
