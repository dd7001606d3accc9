"""What the solvers are, and `solve`: any of them by name on any process that it serves."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from typing import Any

import torch

from adaln.processes import gaussian_solvers, interpolant_solvers
from adaln.processes.dpm_solver import dpm_solver_gaussian, dpm_solver_interpolant
from adaln.processes.gaussian import GaussianDiffusion
from adaln.processes.interpolant import Interpolant
from adaln.processes.registry import SOLVERS, SamplerConfig, Solver
from adaln.types import Denoiser, Draw, Latents, Process

TABLE: Mapping[str, Solver] = {
    "ddpm": Solver({GaussianDiffusion: gaussian_solvers.ddpm}, 250, stochastic=True),
    "ddim": Solver({GaussianDiffusion: gaussian_solvers.ddim}, 50, stochastic=True),
    "dpm++": Solver({GaussianDiffusion: dpm_solver_gaussian, Interpolant: dpm_solver_interpolant}, 25),
    "euler": Solver({Interpolant: interpolant_solvers.euler}, 250),
    "midpoint": Solver({Interpolant: interpolant_solvers.midpoint}, 125),
    "heun": Solver({Interpolant: interpolant_solvers.heun}, 125),
    "heun3": Solver({Interpolant: interpolant_solvers.heun3}, 84),
    "rk4": Solver({Interpolant: interpolant_solvers.rk4}, 63),
    "dopri5": Solver({Interpolant: interpolant_solvers.dopri5}, None),
    "sde-euler": Solver({Interpolant: interpolant_solvers.sde_euler}, 250, stochastic=True),
    "sde-heun": Solver({Interpolant: interpolant_solvers.sde_heun}, 125, stochastic=True),
}
"""Default steps cost about 250 evaluations of the network, except for the solvers made for few."""


def solve(
    process: Process, denoiser: Denoiser, x: Latents, draw: Draw, sampler: SamplerConfig | None = None
) -> Iterator[Latents]:
    """States after each step from noise `x` to the sample, which comes last; no gradients are recorded.

    Raises ValueError at once for a solver that does not serve the process, or a setting that the solver does not take.
    """
    sampler = sampler or SamplerConfig()
    settings = _settings(process, sampler)
    steps = _steps(process, sampler)
    if isinstance(process, GaussianDiffusion):
        process = process.respaced(str(steps))
    elif steps is not None:
        settings["steps"] = steps
    return _without_gradients(_chosen(process, sampler)(process, denoiser, x, draw, **settings))


def count_updates(process: Process, sampler: SamplerConfig) -> int | None:
    """Number of states that `solve` yields; None where the solver chooses its steps as it goes.

    `ValueError` for settings with which `solve` would stop.
    """
    _settings(process, sampler)
    if SOLVERS[solver_name(process, sampler)].steps is None:
        return None
    steps = _steps(process, sampler)
    return process.respaced(str(steps)).num_steps if isinstance(process, GaussianDiffusion) else int(steps or 0)


def solver_name(process: Process, sampler: SamplerConfig) -> str:
    """The solver that `solve` uses: the one asked for, or the default of the process."""
    return sampler.solver or process.solver


def _chosen(process: Process, sampler: SamplerConfig) -> Callable[..., Iterator[Latents]]:
    """The solver's function for this kind of process; ValueError where it serves another kind."""
    name = solver_name(process, sampler)
    function = _function(SOLVERS[name], process)
    if function is None:
        fitting = [other for other, entry in SOLVERS.items() if _function(entry, process)]
        raise ValueError(
            f"solver {name!r} does not serve {type(process).__name__} processes, expected one of {', '.join(fitting)}"
        )
    return function


def _function(solver: Solver, process: Process) -> Callable[..., Iterator[Latents]] | None:
    return next((function for kind, function in solver.by_process.items() if isinstance(process, kind)), None)


def _settings(process: Process, sampler: SamplerConfig) -> dict[str, Any]:
    """The settings that the solver takes; ValueError where another one was changed, since it would have no effect."""
    parameters = inspect.signature(_chosen(process, sampler)).parameters
    names = [f.name for f in fields(sampler) if f.name not in ("solver", "steps")]
    taken = [name for name in names if name in parameters]
    for f in fields(sampler):
        if f.name in names and f.name not in taken and getattr(sampler, f.name) != f.default:
            raise ValueError(
                f"{f.name} is {getattr(sampler, f.name)!r}, expected {f.default!r}: "
                f"solver {solver_name(process, sampler)!r} takes only {', '.join(taken)}"
            )
    return {name: getattr(sampler, name) for name in taken}


def _steps(process: Process, sampler: SamplerConfig) -> int | str | None:
    """Steps asked for, or the solver's default (at most the chain's); None where it chooses them itself."""
    default = SOLVERS[solver_name(process, sampler)].steps
    if isinstance(process, GaussianDiffusion):
        return min(default or 1, process.config.num_steps) if sampler.steps is None else sampler.steps
    if sampler.steps is None:
        return default
    if not str(sampler.steps).isdecimal():
        raise ValueError(f"steps is {sampler.steps!r}, expected a whole number: interpolants know no respacing")
    return int(sampler.steps)


def _without_gradients(states: Iterator[Latents]) -> Iterator[Latents]:
    """Each state computed without gradients, leaving the mode of whoever asks for it alone."""
    while True:
        with torch.no_grad():
            state = next(states, None)
        if state is None:
            return
        yield state
