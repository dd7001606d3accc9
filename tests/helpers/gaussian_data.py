"""A problem whose every answer is known: data N(m, s^2) per entry, so that networks can be exact and flows solved."""

from collections import deque
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from adaln.processes import GaussianDiffusion, Interpolant
from adaln.rng import generator
from adaln.types import Model

MEAN, STD = 0.7, 0.5


def exact_denoiser(process: GaussianDiffusion | Interpolant) -> Callable[[Tensor, Tensor], Tensor]:
    """The network of least loss: the expected noise, velocity or score at x_t, and the posterior's variance."""

    def denoiser(x: Tensor, t: Tensor) -> Tensor:
        if isinstance(process, GaussianDiffusion):
            betas = GaussianDiffusion(process.config).tables.betas
            abar = torch.cumprod(1 - betas, 0)[t].to(x.dtype)[:, None, None, None]
            residual = (x - abar.sqrt() * MEAN) / (abar * STD**2 + 1 - abar)
            noise = (1 - abar).sqrt() * residual
            learned = process.config.outputs_per_channel == 2
            return torch.cat([noise, torch.full_like(noise, -1.0)], 1) if learned else noise
        at = process.coefficients(t)
        residual = (x - at.alpha_t * MEAN) / (at.alpha_t**2 * STD**2 + at.sigma_t**2)
        data, noise = MEAN + at.alpha_t * STD**2 * residual, at.sigma_t * residual
        velocity = at.d_alpha_t * data + at.d_sigma_t * noise
        return {"velocity": velocity, "noise": noise, "score": -residual}[process.config.prediction]

    return denoiser


def flowed(x: Tensor, start: tuple[float, float], end: tuple[float, float]) -> Tensor:
    """Where the probability flow carries a state from levels (alpha, sigma) `start` to `end`."""
    (alpha, sigma), (alpha_end, sigma_end) = start, end
    ratio = (alpha_end**2 * STD**2 + sigma_end**2) / (alpha**2 * STD**2 + sigma**2)
    return alpha_end * MEAN + ratio**0.5 * (x - alpha * MEAN)


def draws(*shape: int, dtype: torch.dtype = torch.float32, key: int = 0) -> Callable[[], Tensor]:
    """A `draw` with a stream of its own."""
    rng = generator("gaussian-data", key)
    return lambda: torch.randn(shape, generator=rng, dtype=dtype)


def last(states: Iterator[Tensor]) -> Tensor:
    return deque(states, maxlen=1).pop()


def drawn_loss(process: GaussianDiffusion | Interpolant, network: Model, x: Tensor, key: str) -> Tensor:
    """The loss of a network without labels at the times and with the noise that a generator of `key` gives."""
    return process.loss(network, x, None, *process.draw(x.shape, generator(key)))
