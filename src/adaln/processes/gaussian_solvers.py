"""Samplers of Gaussian processes: each yields the state after every step of the chain, the last one being the sample.

Fewer steps are another chain: `ddpm(process.respaced("250"), ...)`.
All take raw network outputs `denoiser(x_t, original steps)`; `draw()` gives the next standard normal of x's shape and
is called as often as the published code draws, so that stored noise replays a published trajectory; where that code
discards what it drew, nothing is drawn.
"""

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Int
from torch import Tensor

from adaln.processes.gaussian import GaussianDiffusion
from adaln.types import Denoiser, Draw, Latents

ClassifierGradient = Callable[[Tensor, Tensor], Tensor]
"""(x_t, original steps) -> gradient of log p(y | x_t) with respect to x_t."""


def ddpm(
    process: GaussianDiffusion,
    denoiser: Denoiser,
    x: Latents,
    draw: Draw,
    *,
    clip: bool = False,
    gradient: ClassifierGradient | None = None,
) -> Iterator[Latents]:
    """Ancestral sampling: x_{t-1} = mean + std * noise, without noise at t = 0 (whose draw is consumed all the same).

    `clip` clamps the predicted data to [-1, 1]; `gradient` guides by a classifier: mean + variance * gradient.
    Source: Ho et al. 2020 alg. 2; Dhariwal and Nichol 2021 alg. 1.
    """
    for t in countdown(process, x):
        step = process.predict(denoiser(x, process.model_steps(t)), x, t, clip=clip)
        mean = step.mean
        if gradient is not None:
            mean = mean + step.variance * gradient(x, process.model_steps(t))
        x = mean + _unless_last(t) * torch.exp(0.5 * step.log_variance) * draw()
        yield x


def ddim(
    process: GaussianDiffusion,
    denoiser: Denoiser,
    x: Latents,
    draw: Draw,
    *,
    eta: float = 0.0,
    clip: bool = False,
    gradient: ClassifierGradient | None = None,
) -> Iterator[Latents]:
    """Implicit sampling: deterministic at eta = 0, where no noise is drawn, like `ddpm` in spread at eta = 1.

    sigma = eta sqrt((1 - abar_prev) / (1 - abar)) sqrt(1 - abar / abar_prev);
    x_{t-1} = sqrt(abar_prev) x_start + sqrt(1 - abar_prev - sigma^2) noise + sigma draw.
    The noise is derived again from the clipped data.
    Source: Song et al. 2021 eq. 12, 16; Dhariwal and Nichol 2021 alg. 2.
    """
    for t in countdown(process, x):
        x_start, noise = _data_and_noise(process, denoiser, x, t, clip)
        if gradient is not None:
            noise = noise - process.at("sqrt_one_minus_alphas_cumprod", t) * gradient(x, process.model_steps(t))
            x_start = process.x_start_from_noise(x, t, noise)
        abar, prev = process.at("alphas_cumprod", t), process.at("alphas_cumprod_prev", t)
        sigma = eta * ((1 - prev) / (1 - abar)).sqrt() * (1 - abar / prev).sqrt()
        x = x_start * prev.sqrt() + (1 - prev - sigma**2).sqrt() * noise
        if eta:
            x = x + _unless_last(t) * sigma * draw()
        yield x


def ddim_inversion(
    process: GaussianDiffusion, denoiser: Denoiser, x: Latents, *, clip: bool = False
) -> Iterator[Latents]:
    """Deterministic DDIM run backwards, from data to the noise that `ddim` (eta 0) turns into it, up to step error.

    The last step ends at abar = 0, that is at the predicted noise itself. Source: Dhariwal and Nichol 2021, appendix F.
    """
    for t in reversed(list(countdown(process, x))):
        x_start, noise = _data_and_noise(process, denoiser, x, t, clip)
        following = process.at("alphas_cumprod_next", t)
        x = x_start * following.sqrt() + (1 - following).sqrt() * noise
        yield x


def _data_and_noise(
    process: GaussianDiffusion, denoiser: Denoiser, x: Latents, t: Int[Tensor, "B"], clip: bool
) -> tuple[Latents, Latents]:
    x_start = process.predict(denoiser(x, process.model_steps(t)), x, t, clip=clip).x_start
    return x_start, process.noise_from_x_start(x, t, x_start)


def countdown(process: GaussianDiffusion, x: Latents) -> Iterator[Int[Tensor, "B"]]:
    """The steps of the chain from the last to 0, each for every sample of x."""
    for i in reversed(range(process.num_steps)):
        yield torch.full((len(x),), i, device=x.device)


def _unless_last(t: Int[Tensor, "B"]) -> Tensor:
    return (t != 0).float()[:, None, None, None]
