"""Stochastic samplers of interpolants: dx = (velocity + D score) dt + sqrt(2 D) dW from noise (t0) to data (t1).

Any D(t) >= 0 keeps the marginals. Each solver yields the state after every step; `draw()` is called once per step of
the grid and not for the last step. Source: Ma et al. 2024 (SiT), sections 2.3 and 3.4, appendix A.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from adaln.processes.interpolant import Form, Interpolant, Quantity
from adaln.processes.ode_solvers import per_sample, time_grid
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


def sde(
    process: Interpolant,
    denoiser: Denoiser,
    x: Latents,
    draw: Draw,
    *,
    step: "Step",
    steps: int,
    eps: float | None = None,
    form: Form = "sigma",
    norm: float = 1.0,
    last_step: LastStep = "mean",
    last_step_size: float = 0.04,
) -> Iterator[Latents]:
    """Equal steps of time, then the last step (`finish`), which `steps` counts too.

    `eps` as `Interpolant.sampling_interval`; `norm` multiplies the diffusion of `form`. ValueError for fewer than two
    steps with a last step, or a size of it outside (0, 1).
    """
    size = 0.0 if last_step == "none" else last_step_size
    if last_step != "none" and not 0 < size < 1:
        raise ValueError(f"last_step_size is {size}, expected 0 < last_step_size < 1 (nearest: 0.04)")
    if last_step != "none" and steps < 2:
        raise ValueError(f"steps is {steps}, expected at least 2 with last_step {last_step!r}")
    t0, t1 = process.sampling_interval(eps, form=form, last_step_size=size)
    grid = time_grid(t0, t1, steps - (last_step != "none"), x)
    dynamics = Dynamics(process, denoiser, FORMS[form], norm)

    def states(x: Tensor) -> Iterator[Tensor]:
        for t in grid[:-1]:
            x = step(dynamics, t, grid[1] - grid[0], x, draw)
            yield x
        if last_step != "none":
            yield finish(dynamics, x, last_step, size)

    return states(x)


@dataclass(frozen=True)
class Dynamics:
    """The two coefficients of the equation, at host times."""

    process: Interpolant
    denoiser: Denoiser
    diffusion: Diffusion
    norm: float

    def drift(self, t: float, x: Tensor) -> Tensor:
        """velocity + D score, both read from one evaluation of the network."""
        times = per_sample(min(t, LATEST_SCORE), x)
        output = self.denoiser(x, times)
        diffusion = self.diffusion(self.process, times, self.norm)[:, None, None, None]
        score = self.process.read(output, x, times, "score")
        return self.process.read(output, x, times, "velocity") + diffusion * score

    def spread(self, t: float, x: Tensor) -> Tensor:
        """sqrt(2 D)."""
        return (2 * self.diffusion(self.process, per_sample(t, x), self.norm)).sqrt()[:, None, None, None]

    def read(self, t: float, x: Tensor, quantity: Quantity) -> Tensor:
        """What the network says of a quantity."""
        times = per_sample(t, x)
        return self.process.read(self.denoiser(x, times), x, times, quantity)


Step = Callable[[Dynamics, float, float, Tensor, Draw], Tensor]
"""(dynamics, t, dt, state, draw) -> next state."""


def euler_maruyama_step(dynamics: Dynamics, t: float, dt: float, x: Tensor, draw: Draw) -> Tensor:
    """x + drift dt + sqrt(2 D dt) draw."""
    return x + dynamics.drift(t, x) * dt + dynamics.spread(t, x) * math.sqrt(dt) * draw()


def heun_step(dynamics: Dynamics, t: float, dt: float, x: Tensor, draw: Draw) -> Tensor:
    """First the noise, x' = x + sqrt(2 D dt) draw, then a deterministic Heun step from x'."""
    x = x + dynamics.spread(t, x) * math.sqrt(dt) * draw()
    first = dynamics.drift(t, x)
    return x + 0.5 * dt * (first + dynamics.drift(t + dt, x + dt * first))


def finish(dynamics: Dynamics, x: Tensor, last_step: LastStep, size: float) -> Tensor:
    """The noise-free last step from t = 1 - size: along the SDE's drift (mean), along the flow's (euler), or to the
    posterior mean x / alpha + sigma^2 / alpha score (tweedie)."""
    t = 1 - size
    if last_step == "mean":
        return x + dynamics.drift(t, x) * size
    if last_step == "euler":
        return x + dynamics.read(t, x, "velocity") * size
    return dynamics.read(t, x, "data")  # Tweedie's formula, without its division by sigma


sde_euler = partial(sde, step=euler_maruyama_step)
sde_heun = partial(sde, step=heun_step)
