"""Processes and solvers by name, and how a sample is asked for. A solver is imported when it is first asked for."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import inf
from typing import Any, Literal

from adaln.codec import name_kinds
from adaln.processes.config import GaussianConfig, InterpolantConfig
from adaln.registry import Later, Registry
from adaln.specs import ProcessConfig

Form = Literal["constant", "sbdm", "sigma", "linear", "decreasing", "increasing-decreasing"]
LastStep = Literal["none", "mean", "tweedie", "euler"]


@dataclass(frozen=True)
class Solver:
    """A solver for one kind of process or for both; the settings it takes are its function's keyword arguments."""

    by_process: Mapping[type[Any], Callable[..., Iterator[Any]]]
    """Kind of process -> the solver of it, and of the kinds derived from it."""
    steps: int | None
    """Default number of steps; None: adaptive, not known in advance."""
    stochastic: bool = False
    """Whether it draws noise on the way."""


SOLVERS: Registry[Solver] = Registry(
    "solver",
    dict.fromkeys(
        ("ddpm", "ddim", "dpm++", "euler", "midpoint", "heun", "heun3", "rk4", "dopri5", "sde-euler", "sde-heun"),
        Later("adaln.processes.solvers:TABLE"),
    ),
    accepts=Solver,
)


@dataclass(frozen=True)
class SamplerConfig:
    """How a sample is drawn."""

    solver: str | None = None
    """Name in the table of solvers; default: ddpm for Gaussian processes, heun for interpolants."""
    steps: int | str | None = None
    """Number of steps (dopri5: of states shown), or for Gaussian processes a respacing such as 10,15,20 or ddim50;
    default: the solver's."""
    clip: bool = False
    """Clamp predicted data to [-1, 1]: for pixels, not for latents (Gaussian processes)."""
    eta: float = 0.0
    """Noise of ddim: 0 is deterministic, 1 as ddpm."""
    eps: float | None = None
    """Interpolants keep this far from a singular end of time; default 1e-3, or 0 where no end is singular."""
    form: Form = "sigma"
    """Diffusion of an SDE over time."""
    norm: float = 1.0
    """Factor of that diffusion."""
    last_step: LastStep = "mean"
    """How an SDE goes from 1 - last_step_size to 1: its own mean, Tweedie's formula, the flow's Euler step, or not."""
    last_step_size: float = 0.04
    """Time left to the last step of an SDE."""
    atol: float = 1e-6
    """Absolute tolerance of dopri5."""
    rtol: float = 1e-3
    """Relative tolerance of dopri5."""

    def __post_init__(self) -> None:
        if self.solver is not None:
            SOLVERS.check(self.solver)
        if not 0 <= self.eta <= 1:
            raise ValueError(f"eta is {self.eta}, expected 0 <= eta <= 1")
        for name in ("norm", "atol", "rtol"):
            if not 0 < getattr(self, name) < inf:
                raise ValueError(f"{name} is {getattr(self, name)}, expected a number, more than 0")
        if self.eps is not None and not 0 <= self.eps < 0.5:
            raise ValueError(f"eps is {self.eps}, expected 0 <= eps < 0.5")
        if not 0 <= self.last_step_size < 1:
            raise ValueError(f"last_step_size is {self.last_step_size}, expected 0 <= last_step_size < 1")
        if isinstance(self.steps, int) and self.steps < 1:
            raise ValueError(f"steps is {self.steps}, expected at least 1")


name_kinds({kind.__name__: kind for kind in (GaussianConfig, InterpolantConfig)}, of=ProcessConfig)

PROCESSES: Registry[ProcessConfig] = Registry(
    "process",
    {
        "ddpm": GaussianConfig(),
        "ddpm-cosine": GaussianConfig(schedule="squaredcos_cap_v2"),
        "ddpm-fixed-small": GaussianConfig(variance="fixed-small"),
        "ddpm-fixed-large": GaussianConfig(variance="fixed-large"),
        "linear-velocity": InterpolantConfig(),
        "linear-noise": InterpolantConfig(prediction="noise"),
        "linear-score": InterpolantConfig(prediction="score"),
        "gvp-velocity": InterpolantConfig(path="gvp"),
        "gvp-noise": InterpolantConfig(path="gvp", prediction="noise"),
        "gvp-score": InterpolantConfig(path="gvp", prediction="score"),
        "vp-velocity": InterpolantConfig(path="vp"),
        "vp-noise": InterpolantConfig(path="vp", prediction="noise"),
        "vp-score": InterpolantConfig(path="vp", prediction="score"),
    },
    accepts=ProcessConfig,
    added=lambda config: name_kinds({type(config).__name__: type(config)}, of=ProcessConfig),
)
"""Processes by name; "ddpm" is the paper's."""
