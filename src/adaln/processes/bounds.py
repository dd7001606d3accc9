"""Pieces of the variational bound of a denoising diffusion, and the bits per dimension that they add up to."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from adaln.types import Denoiser, Draw, Latents

if TYPE_CHECKING:
    from adaln.processes.gaussian import Gaussian

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


@dataclass(frozen=True)
class BitsPerDim:
    """The bound on the negative log likelihood of each sample, in bits per dimension, and what it is made of.

    Columns run in the order of sampling: last step first.
    """

    total: Float[Tensor, "B"]
    prior: Float[Tensor, "B"]
    vb: Float[Tensor, "B T"]
    x_start_mse: Float[Tensor, "B T"]
    noise_mse: Float[Tensor, "B T"]


@torch.no_grad()
def bits_per_dim(process: "Gaussian", denoiser: Denoiser, x: Latents, draw: Draw, *, clip: bool = True) -> BitsPerDim:
    """Full variational bound: prior term plus one term per step, each with one noise draw (last step first).

    Meant for pixels in [-1, 1]: the t = 0 term counts grey levels, and `clip` clamps the predicted data to that range.
    Source: Nichol and Dhariwal 2021, section 2.
    """
    rows: list[tuple[Tensor, Tensor, Tensor]] = []
    for i in reversed(range(process.num_steps)):
        t = torch.full((len(x),), i, device=x.device)
        noise = draw()
        x_t = process.noised(x, t, noise)
        output = denoiser(x_t, process.model_steps(t))
        x_start = process.predict(output, x_t, t, clip=clip).x_start
        noise_error = process.noise_from_x_start(x_t, t, x_start) - noise
        vb = process.variational_bound(output, x, x_t, t, clip=clip)
        rows.append((vb, mean_flat((x_start - x) ** 2), mean_flat(noise_error**2)))
    vb, x_start_mse, noise_mse = (torch.stack(column, 1) for column in zip(*rows, strict=True))
    prior = process.prior_bits(x)
    return BitsPerDim(prior + vb.sum(1), prior, vb, x_start_mse, noise_mse)
