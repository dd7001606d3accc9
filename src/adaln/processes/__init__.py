"""Processes turn data into noise and back: what a network learns of them, and the solvers that run them backwards."""

from adaln.codec import name_kinds as name_kinds
from adaln.processes.gaussian import GaussianConfig as GaussianConfig
from adaln.processes.gaussian import GaussianDiffusion as GaussianDiffusion
from adaln.processes.guidance import Guidance as Guidance
from adaln.processes.guidance import guided as guided
from adaln.processes.interpolant import Interpolant as Interpolant
from adaln.processes.interpolant import InterpolantConfig as InterpolantConfig
from adaln.processes.solvers import SOLVERS as SOLVERS
from adaln.processes.solvers import SamplerConfig as SamplerConfig
from adaln.processes.solvers import Solver as Solver
from adaln.processes.solvers import count_updates as count_updates
from adaln.processes.solvers import solve as solve
from adaln.processes.solvers import solver_name as solver_name
from adaln.registry import Registry as Registry
from adaln.types import ProcessConfig as ProcessConfig

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
