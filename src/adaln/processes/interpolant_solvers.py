"""Samplers of interpolants from noise (t0) to data (t1): each yields the state after every step.

Deterministic ones follow the probability flow dx/dt = velocity(x, t), `draw` unused. Stochastic ones follow
dx = (velocity + D score) dt + sqrt(2 D) dW, where any D(t) >= 0 keeps the marginals; `draw()` is called once per step
of the grid and not for the last step. Times stay on the host, so that no step waits for the device.

Source: Hairer, Norsett, Wanner, Solving ODEs I, II.1 (explicit methods); Ma et al. 2024 (SiT), sections 2.3 and 3.4,
appendix A (stochastic ones).
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from adaln.processes.interpolant import Interpolant, Quantity
from adaln.processes.registry import Form, LastStep
from adaln.registry import Registry
from adaln.types import Denoiser, Draw, Latents

Drift = Callable[[float, Tensor], Tensor]
"""(host time, state) -> velocity."""


class Tableau(NamedTuple):
    """Explicit Runge-Kutta method: k_i = drift(t + c_i dt, x + dt sum_j a_ij k_j), step x + dt sum_i b_i k_i."""

    c: tuple[float, ...]
    a: tuple[tuple[float, ...], ...]
    b: tuple[float, ...]


EULER = Tableau((0.0,), ((),), (1.0,))
MIDPOINT = Tableau((0.0, 1 / 2), ((), (1 / 2,)), (0.0, 1.0))
HEUN = Tableau((0.0, 1.0), ((), (1.0,)), (1 / 2, 1 / 2))
HEUN3 = Tableau((0.0, 1 / 3, 2 / 3), ((), (1 / 3,), (0.0, 2 / 3)), (1 / 4, 0.0, 3 / 4))
RK4 = Tableau(
    (0.0, 1 / 3, 2 / 3, 1.0), ((), (1 / 3,), (-1 / 3, 1.0), (1.0, -1.0, 1.0)), (1 / 8, 3 / 8, 3 / 8, 1 / 8)
)  # Kutta's three-eighths rule


def runge_kutta(
    process: Interpolant,
    denoiser: Denoiser,
    x: Latents,
    draw: Draw,
    *,
    tableau: Tableau,
    steps: int,
    eps: float | None = None,
    reverse: bool = False,
) -> Iterator[Latents]:
    """Equal steps of an explicit method; `reverse` runs from data to noise. `draw` is unused.

    `eps` as `Interpolant.sampling_interval`. Source: Hairer, Norsett, Wanner, Solving ODEs I, II.1.
    """
    t0, t1 = process.sampling_interval(eps, reverse=reverse)
    return integrate(read_from(process, denoiser, "velocity"), x, time_grid(t0, t1, steps, x), tableau)


euler = partial(runge_kutta, tableau=EULER)
midpoint = partial(runge_kutta, tableau=MIDPOINT)
heun = partial(runge_kutta, tableau=HEUN)
heun3 = partial(runge_kutta, tableau=HEUN3)
rk4 = partial(runge_kutta, tableau=RK4)


def dopri5(
    process: Interpolant,
    denoiser: Denoiser,
    x: Latents,
    draw: Draw,
    *,
    steps: int = 1,
    eps: float | None = None,
    atol: float = 1e-6,
    rtol: float = 1e-3,
    reverse: bool = False,
) -> Iterator[Latents]:
    """Adaptive Dormand-Prince 5(4); yields at `steps` equal times, at no cost in accuracy. `draw` is unused.

    The drift is never evaluated beyond t1, where a process need not be defined. The error norm is taken over the whole
    batch, so a sample depends on its batch, within the tolerance. Raises ValueError without torchdiffeq.
    """
    t0, t1 = process.sampling_interval(eps, reverse=reverse)
    drift = read_from(process, denoiser, "velocity")
    return integrate_adaptively(drift, x, time_grid(t0, t1, steps, x), atol=atol, rtol=rtol)


def read_from(process: Interpolant, denoiser: Denoiser, quantity: Quantity) -> Drift:
    """What the network says of a quantity, at host times: its velocity is the drift of the probability flow."""

    def value(t: float, x: Tensor) -> Tensor:
        times = per_sample(t, x)
        return process.read(denoiser(x, times), x, times, quantity)

    return value


def per_sample(t: float, x: Tensor) -> Tensor:
    """The time t for every sample of x, in its precision, on its device."""
    return torch.full((len(x),), t, dtype=x.dtype, device=x.device)


def time_grid(t0: float, t1: float, steps: int, x: Tensor) -> list[float]:
    """`steps` equal intervals from t0 to t1, rounded to x's precision; ValueError for fewer than one."""
    if steps < 1:
        raise ValueError(f"steps is {steps}, expected at least 1")
    grid: list[float] = torch.linspace(t0, t1, steps + 1, dtype=x.dtype).tolist()
    return grid


def integrate(drift: Drift, x: Tensor, grid: list[float], tableau: Tableau) -> Iterator[Tensor]:
    """States at grid[1:] of dx/dt = drift(t, x)."""
    for t, following in pairwise(grid):
        dt = following - t
        stages: list[Tensor] = []
        for c, row in zip(tableau.c, tableau.a, strict=True):
            stages.append(drift(t + c * dt, _advance(x, dt, row, stages)))
        x = _advance(x, dt, tableau.b, stages)
        yield x


def _advance(x: Tensor, dt: float, weights: tuple[float, ...], stages: list[Tensor]) -> Tensor:
    for weight, stage in zip(weights, stages, strict=True):
        x = x + (dt * weight) * stage if weight else x
    return x


def integrate_adaptively(drift: Drift, x: Tensor, grid: list[float], *, atol: float, rtol: float) -> Iterator[Tensor]:
    """States at grid[1:], with steps that end at grid[-1] instead of beyond it."""
    try:
        from torchdiffeq import odeint
    except ImportError:
        raise ValueError("solver 'dopri5' needs torchdiffeq: pip install 'adaln[ode]'") from None
    low, high = min(grid[0], grid[-1]), max(grid[0], grid[-1])
    dtype = torch.float32 if x.device.type == "mps" else torch.float64  # which that device lacks
    times = torch.tensor(grid, dtype=dtype, device=x.device)

    def inside(t: Tensor, x: Tensor) -> Tensor:
        return drift(min(max(float(t), low), high), x)  # the first trial step may look past the end

    options = {"step_t": times[-1:], "dtype": dtype}
    states = odeint(inside, x, times, method="dopri5", atol=atol, rtol=rtol, options=options)
    yield from states[1:]


# Stochastic

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
    quantity: Quantity = "velocity" if last_step == "euler" else "data"  # without Tweedie's division by sigma
    value = read_from(dynamics.process, dynamics.denoiser, quantity)(t, x)
    return x + value * size if last_step == "euler" else value


sde_euler = partial(sde, step=euler_maruyama_step)
sde_heun = partial(sde, step=heun_step)
