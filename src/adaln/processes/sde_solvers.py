"""Stochastic samplers of interpolants: dx = (velocity + D score) dt + sqrt(2 D) dW from noise (t0) to data (t1).

Any D(t) >= 0 keeps the marginals. Each solver yields the state after every step; `draw()` is called once per step of
the grid and not for the last step. Source: Ma et al. 2024 (SiT), sections 2.3 and 3.4, appendix A.
"""

import math
from collections.abc import Callable, Iterator
from typing import Literal

import torch
from torch import Tensor

from adaln.processes.interpolant import Form, Interpolant
from adaln.processes.ode_solvers import time_grid
from adaln.registry import Registry
from adaln.types import Denoiser, Draw, Latents

LastStep = Literal["none", "mean", "tweedie", "euler"]
LATEST_SCORE = 1 - 1e-5
"""The score is infinite at t = 1 while D * score may have a limit there; the drift is read no later than this."""

Diffusion = Callable[[Interpolant, Tensor, float], Tensor]
FORMS: Registry[Diffusion] = Registry(
    "diffusion form",
    {
        "constant": lambda process, t, norm: torch.full_like(t, norm),
        "sbdm": lambda process, t, norm: norm * process.path(t).score_weight_t,
        "sigma": lambda process, t, norm: norm * process.path(t).sigma_t,
        "linear": lambda process, t, norm: norm * (1 - t),
        "decreasing": lambda process, t, norm: 0.25 * (norm * torch.cos(math.pi * t) + 1) ** 2,
        "increasing-decreasing": lambda process, t, norm: norm * torch.sin(math.pi * t) ** 2,
    },
)
"""D(t) of each form, with factor `norm` (inside the square for `decreasing`); sbdm is the one that noised the data."""


def sde_euler(
    process: Interpolant,
    denoiser: Denoiser,
    x: Latents,
    draw: Draw,
    *,
    steps: int,
    eps: float | None = None,
    form: Form = "sigma",
    norm: float = 1.0,
    last_step: LastStep = "mean",
    last_step_size: float = 0.04,
) -> Iterator[Latents]:
    """Euler-Maruyama: x + drift dt + sqrt(2 D dt) draw; `steps` counts the last step (`finish`) too."""
    grid = _sde_grid(process, x, steps, eps, form, last_step, last_step_size)
    drift = _SdeDrift(process, denoiser, form, norm)
    for t, dt in grid:
        x = x + drift(t, x) * dt + drift.spread(t, x) * math.sqrt(dt) * draw()
        yield x
    if last_step != "none":
        yield finish(process, denoiser, x, form=form, norm=norm, last_step=last_step, size=last_step_size)


def sde_heun(
    process: Interpolant,
    denoiser: Denoiser,
    x: Latents,
    draw: Draw,
    *,
    steps: int,
    eps: float | None = None,
    form: Form = "sigma",
    norm: float = 1.0,
    last_step: LastStep = "mean",
    last_step_size: float = 0.04,
) -> Iterator[Latents]:
    """Stochastic Heun: first the noise, x' = x + sqrt(2 D dt) draw, then a deterministic Heun step from x'."""
    grid = _sde_grid(process, x, steps, eps, form, last_step, last_step_size)
    drift = _SdeDrift(process, denoiser, form, norm)
    for t, dt in grid:
        x = x + drift.spread(t, x) * math.sqrt(dt) * draw()
        first = drift(t, x)
        x = x + 0.5 * dt * (first + drift(t + dt, x + dt * first))
        yield x
    if last_step != "none":
        yield finish(process, denoiser, x, form=form, norm=norm, last_step=last_step, size=last_step_size)


def finish(
    process: Interpolant, denoiser: Denoiser, x: Latents, *, form: Form, norm: float, last_step: LastStep, size: float
) -> Latents:
    """The noise-free last step from t = 1 - size: along the SDE's drift (mean), along the flow's (euler), or to the
    posterior mean x / alpha + sigma^2 / alpha score (tweedie)."""
    drift = _SdeDrift(process, denoiser, form, norm)
    t = 1 - size
    if last_step == "mean":
        return x + drift(t, x) * size
    times = drift.times(t, x)
    output = denoiser(x, times)
    if last_step == "euler":
        return x + process.read(output, x, times, "velocity") * size
    return process.read(output, x, times, "data")  # equal to Tweedie's formula, without its division by sigma


class _SdeDrift:
    """velocity + D score, and the spread sqrt(2 D) of the noise, at host times."""

    def __init__(self, process: Interpolant, denoiser: Denoiser, form: Form, norm: float) -> None:
        self.process, self.denoiser, self.diffusion, self.norm = process, denoiser, FORMS[form], norm

    def times(self, t: float, x: Tensor) -> Tensor:
        return torch.full((len(x),), t, dtype=x.dtype, device=x.device)

    def spread(self, t: float, x: Tensor) -> Tensor:
        return (2 * self.diffusion(self.process, self.times(t, x), self.norm)).sqrt()[:, None, None, None]

    def __call__(self, t: float, x: Tensor) -> Tensor:
        times = self.times(min(t, LATEST_SCORE), x)
        output = self.denoiser(x, times)
        diffusion = self.diffusion(self.process, times, self.norm)[:, None, None, None]
        score = self.process.read(output, x, times, "score")
        return self.process.read(output, x, times, "velocity") + diffusion * score


def _sde_grid(
    process: Interpolant,
    x: Tensor,
    steps: int,
    eps: float | None,
    form: Form,
    last_step: LastStep,
    last_step_size: float,
) -> list[tuple[float, float]]:
    """(t, dt) of every step but the last; ValueError where the last step's size leaves nothing."""
    if last_step == "none":
        last_step_size = 0.0
    elif not 0 < last_step_size < 1:
        raise ValueError(f"last_step_size is {last_step_size}, expected 0 < last_step_size < 1 (nearest: 0.04)")
    if steps < 2 and last_step != "none":
        raise ValueError(f"steps is {steps}, expected at least 2 with last_step {last_step!r}")
    t0, t1 = process.sampling_interval(eps, form=form, last_step_size=last_step_size)
    grid = time_grid(t0, t1, steps - (last_step != "none"), x)
    return [(t, grid[1] - grid[0]) for t in grid[:-1]]
