"""Pieces of the variational bound of a denoising diffusion."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

HALF_BIN = 1 / 255
"""Half the width of one of 256 grey levels on [-1, 1]."""
EDGE = 0.999
"""Beyond +-EDGE a value counts as the first or last grey level, whose bin reaches to infinity."""
SMALLEST_PROBABILITY = 1e-12


def normal_kl(mean1: Tensor, log_variance1: Tensor, mean2: Tensor, log_variance2: Tensor) -> Tensor:
    """KL(N(mean1, variance1) || N(mean2, variance2)) in nats, elementwise with broadcasting."""
    ratio = torch.exp(log_variance1 - log_variance2)
    distance = (mean1 - mean2) ** 2 * torch.exp(-log_variance2)
    return 0.5 * (-1.0 + log_variance2 - log_variance1 + ratio + distance)


def approx_normal_cdf(x: Tensor) -> Tensor:
    """Standard normal distribution function by the tanh approximation, error below 1e-3."""
    return 0.5 * (1.0 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def discretised_log_likelihood(x: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Log probability (nats) of the grey level of `x` under N(mean, std^2), elementwise; probabilities stop at 1e-12.

    Source: Ho et al. 2020 eq. 13.
    """
    below = approx_normal_cdf((x - mean - HALF_BIN) * torch.exp(-log_std))
    above = approx_normal_cdf((x - mean + HALF_BIN) * torch.exp(-log_std))
    probability = torch.where(x < -EDGE, above, torch.where(x > EDGE, 1 - below, above - below))
    return probability.clamp(min=SMALLEST_PROBABILITY).log()


def mean_flat(x: Float[Tensor, "B *rest"]) -> Float[Tensor, "B"]:
    """Mean over everything but the batch."""
    return x.flatten(1).mean(1)
