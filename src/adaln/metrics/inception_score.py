"""The Inception Score: how sure the classifier is of each image, and how many classes it is sure of overall."""

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from adaln.metrics.intervals import ScoreInterval, around, resampling_weights

SPLIT_SIZE = 5000
"""ADM's: 50,000 images make ten splits, in file order."""


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
