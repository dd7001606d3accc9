"""Processes turn data into noise and back: what a network learns of them, and the solvers that run them backwards."""

from adaln.codec import name_kinds
from adaln.processes.gaussian import GaussianConfig, GaussianDiffusion
from adaln.processes.guidance import Guidance, guided
from adaln.processes.interpolant import Interpolant, InterpolantConfig
from adaln.processes.solvers import SOLVERS, SamplerConfig, Solver, count_updates, solve, solver_name
from adaln.registry import Registry
from adaln.types import ProcessConfig

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

__all__ = [
    "PROCESSES",
    "SOLVERS",
    "GaussianConfig",
    "GaussianDiffusion",
    "Guidance",
    "Interpolant",
    "InterpolantConfig",
    "ProcessConfig",
    "SamplerConfig",
    "Solver",
    "count_updates",
    "guided",
    "solve",
    "solver_name",
]
