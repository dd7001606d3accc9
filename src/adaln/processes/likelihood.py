"""How likely a process holds data to be: the variational bound of a Gaussian one, the flow of an interpolant."""

import math
from collections import deque
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from adaln.processes.gaussian import GaussianDiffusion, mean_flat
from adaln.processes.gaussian_solvers import countdown
from adaln.processes.interpolant import Interpolant
from adaln.processes.interpolant_solvers import Drift, Tableau, integrate, integrate_adaptively, read_from, time_grid
from adaln.types import Denoiser, Draw, Latents


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
def bits_per_dim(
    process: GaussianDiffusion, denoiser: Denoiser, x: Latents, draw: Draw, *, clip: bool = True
) -> BitsPerDim:
    """Full variational bound: prior term plus one term per step, each with one noise draw (last step first).

    Meant for pixels in [-1, 1]: the t = 0 term counts grey levels, and `clip` clamps the predicted data to that range.
    Source: Nichol and Dhariwal 2021, section 2.
    """
    rows: list[tuple[Tensor, Tensor, Tensor]] = []
    for t in countdown(process, x):
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


def log_likelihood(
    process: Interpolant,
    denoiser: Denoiser,
    x: Latents,
    draw: Draw,
    *,
    tableau: Tableau | None = None,
    steps: int = 1,
    eps: float | None = None,
    atol: float = 1e-6,
    rtol: float = 1e-3,
) -> tuple[Float[Tensor, "B"], Latents]:
    """Log density (nats) of each sample under the probability flow, and the noise that it flows back to.

    log p(x) = log N(z; 0, 1) - integral of div velocity over time. The divergence is estimated with one random sign per
    entry (of a new `draw`) at each evaluation: unbiased, exact where the network acts on each entry alone.
    `tableau` with `steps` equal steps, or adaptive (dopri5) where None. Source: Song et al. 2021 section 4.3.
    """
    grid = time_grid(*process.sampling_interval(eps, reverse=True), steps, x)
    drift = _with_divergence(read_from(process, denoiser, "velocity"), x.shape, draw)
    state = torch.cat([x.flatten(1), x.new_zeros(len(x), 1)], 1)
    if tableau is None:
        states = integrate_adaptively(drift, state, grid, atol=atol, rtol=rtol)
    else:
        states = integrate(drift, state, grid, tableau)
    end = deque(states, maxlen=1).pop()
    z, change = end[:, :-1], end[:, -1]
    return standard_normal_log_density(z) + change, z.view(x.shape)


def standard_normal_log_density(z: Float[Tensor, "B *rest"]) -> Float[Tensor, "B"]:
    """log N(z; 0, 1) in nats, summed over all but the batch."""
    z = z.flatten(1)
    return -0.5 * (z**2).sum(1) - 0.5 * z.shape[1] * math.log(2 * math.pi)


def _with_divergence(drift: Drift, shape: torch.Size, draw: Draw) -> Drift:
    """The drift of (flattened state, integral of its divergence): rows of one tensor, so that any solver runs it."""

    def augmented(t: float, state: Tensor) -> Tensor:
        with torch.enable_grad():
            x = state[:, :-1].detach().view(shape).requires_grad_()
            velocity = drift(t, x)
            probe = draw().sign()
            (product,) = torch.autograd.grad(velocity, x, probe)
        divergence = (product * probe).flatten(1).sum(1, keepdim=True)
        return torch.cat([velocity.detach().flatten(1), divergence], 1)

    return augmented
