"""Deterministic samplers of interpolants: the probability flow dx/dt = velocity(x, t) from noise (t0) to data (t1).

Each yields the state after every step. A `Drift` is (host time, state) -> velocity; times stay on the host, so that no
step waits for the device.
"""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from adaln.processes.interpolant import Interpolant
from adaln.types import Denoiser, Draw, Latents

Drift = Callable[[float, Tensor], Tensor]


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
    return integrate(flow(process, denoiser), x, time_grid(t0, t1, steps, x), tableau)


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
    batch, so a sample depends on its batch, within the tolerance. Raises ImportError without torchdiffeq.
    """
    t0, t1 = process.sampling_interval(eps, reverse=reverse)
    return integrate_adaptively(flow(process, denoiser), x, time_grid(t0, t1, steps, x), atol=atol, rtol=rtol)


def flow(process: Interpolant, denoiser: Denoiser) -> Drift:
    """Velocity of the probability flow, read from the network's output."""

    def drift(t: float, x: Tensor) -> Tensor:
        times = per_sample(t, x)
        return process.read(denoiser(x, times), x, times, "velocity")

    return drift


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
        raise ImportError("solver 'dopri5' needs torchdiffeq: pip install adaln[ode]") from None
    low, high = min(grid[0], grid[-1]), max(grid[0], grid[-1])
    dtype = torch.float32 if x.device.type == "mps" else torch.float64  # which that device lacks
    times = torch.tensor(grid, dtype=dtype, device=x.device)

    def inside(t: Tensor, x: Tensor) -> Tensor:
        return drift(min(max(float(t), low), high), x)  # the first trial step may look past the end

    options = {"step_t": times[-1:], "dtype": dtype}
    states = odeint(inside, x, times, method="dopri5", atol=atol, rtol=rtol, options=options)
    yield from states[1:]
