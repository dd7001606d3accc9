"""DPM-Solver++(2M): a second-order multistep sampler in the log signal-to-noise ratio, for both kinds of process."""

import math
from collections.abc import Callable, Iterator
from itertools import pairwise

import torch
from torch import Tensor

from adaln.processes.gaussian import GaussianDiffusion
from adaln.processes.interpolant import Interpolant
from adaln.processes.interpolant_solvers import read_from, time_grid
from adaln.types import Denoiser, Draw, Latents

DataAt = Callable[[int, Tensor], Tensor]
"""(index of the grid, state) -> predicted data."""


def dpm_solver_gaussian(
    process: GaussianDiffusion, denoiser: Denoiser, x: Latents, draw: Draw, *, clip: bool = False
) -> Iterator[Latents]:
    """Over the steps of the chain, then to abar = 1: the state that ends it is the data predicted at t = 0.

    `draw` is unused.
    """

    def data(i: int, x: Tensor) -> Tensor:
        t = torch.full((len(x),), process.num_steps - 1 - i, device=x.device)
        return process.predict(denoiser(x, process.model_steps(t)), x, t, clip=clip).x_start

    abars = [*process.tables.alphas_cumprod.flip(0).tolist(), 1.0]
    return multistep(data, x, [(math.sqrt(abar), math.sqrt(1 - abar)) for abar in abars])


def dpm_solver_interpolant(
    process: Interpolant, denoiser: Denoiser, x: Latents, draw: Draw, *, steps: int, eps: float | None = None
) -> Iterator[Latents]:
    """Over `steps` equal intervals of time. `draw` is unused; `eps` as `Interpolant.sampling_interval`.

    For velocity prediction on linear and gvp the log signal-to-noise ratio runs from -infinity to infinity: the error
    falls a little slower there than steps^-2 (measured: steps^-1.8).
    """
    grid = time_grid(*process.sampling_interval(eps), steps, x)
    data = read_from(process, denoiser, "data")
    at = process.path(torch.tensor(grid, dtype=torch.float64))
    return multistep(lambda i, x: data(grid[i], x), x, list(zip(at.alpha_t.tolist(), at.sigma_t.tolist(), strict=True)))


def multistep(data: DataAt, x: Tensor, levels: list[tuple[float, float]]) -> Iterator[Tensor]:
    """States at levels[1:] = (alpha, sigma), given the state at levels[0].

    With lambda = log(alpha / sigma), h its increase and r = h_previous / h:
    x <- (sigma' / sigma) x - alpha' (exp(-h) - 1) ((1 + 1/2r) data - 1/2r data_previous).
    First order where h is infinite (alpha = 0 or sigma' = 0) or no previous prediction exists.
    Source: Lu et al. 2022, DPM-Solver++, algorithm 2.
    """
    previous, h_previous = x, math.inf
    for i, ((alpha, sigma), (alpha_next, sigma_next)) in enumerate(pairwise(levels)):
        h = _log_snr(alpha_next, sigma_next) - _log_snr(alpha, sigma)
        predicted = data(i, x)
        extrapolation = 0.0 if math.isinf(h) or math.isinf(h_previous) else 0.5 * h / h_previous
        estimate = predicted + extrapolation * (predicted - previous)
        x = (sigma_next / sigma) * x - alpha_next * math.expm1(-h) * estimate
        previous, h_previous = predicted, h
        yield x


def _log_snr(alpha: float, sigma: float) -> float:
    if alpha == 0:
        return -math.inf
    return math.inf if sigma == 0 else math.log(alpha) - math.log(sigma)
