"""Paths x_t = alpha_t x + sigma_t noise from noise (t = 0) to data (t = 1), each a function of time.

alpha rises from 0 (VP: nearly 0) to 1 while sigma falls from 1 to 0.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from adaln.registry import Registry

BETA_MIN, BETA_MAX = 0.1, 20.0
"""Ends of the linear beta(t) of the variance-preserving diffusion (Song et al. 2021, appendix C)."""


class Coefficients(NamedTuple):
    """The four coefficients of a path, and the one combination that needs its closed form at the ends."""

    alpha_t: Tensor
    sigma_t: Tensor
    d_alpha_t: Tensor
    d_sigma_t: Tensor
    score_weight_t: Tensor
    """V = (d_alpha / alpha) sigma^2 - sigma d_sigma, the score's weight in the velocity; infinite where alpha = 0."""


Path = Callable[[Float[Tensor, "*any"]], Coefficients]


def linear(t: Float[Tensor, "*any"]) -> Coefficients:
    """alpha = t, sigma = 1 - t (rectified flow): constant speed. V = (1 - t) / t."""
    one = torch.ones_like(t)
    return Coefficients(t, 1 - t, one, -one, (1 - t) / t)


def gvp(t: Float[Tensor, "*any"]) -> Coefficients:
    """alpha = sin(pi t / 2), sigma = cos(pi t / 2): variance preserving. V = (pi / 2) sigma / alpha."""
    rate = math.pi / 2
    alpha, sigma = torch.sin(rate * t), torch.sin(rate * (1 - t))  # the sine of 1 - t is exactly 0 at t = 1
    return Coefficients(alpha, sigma, rate * sigma, -rate * alpha, rate * sigma / alpha)


def vp(t: Float[Tensor, "*any"]) -> Coefficients:
    """alpha = exp(l), sigma = sqrt(1 - exp(2 l)), l = -(1-t)^2 (20 - 0.1) / 4 - (1-t) 0.1 / 2. V = l' = beta / 2.

    alpha is 0.0066 at t = 0; the derivative of sigma is infinite at t = 1.
    """
    s = 1 - t
    log_alpha = -0.25 * s**2 * (BETA_MAX - BETA_MIN) - 0.5 * s * BETA_MIN
    half_beta = 0.5 * s * (BETA_MAX - BETA_MIN) + 0.5 * BETA_MIN
    # expm1 would keep digits that float32 loses near t = 1 (3e-4 of sigma at 0.999), but published samples lost them.
    alpha, sigma = log_alpha.exp(), (1 - torch.exp(2 * log_alpha)).clamp(min=0).sqrt()
    return Coefficients(alpha, sigma, half_beta * alpha, -half_beta * alpha**2 / sigma, half_beta)


PATHS: Registry[Path] = Registry("path", {"linear": linear, "gvp": gvp, "vp": vp})
