"""Processes turn data into noise and back: what a network learns of them, and the solvers that run them backwards."""

from typing import TYPE_CHECKING

from adaln.lazily import lazily

if TYPE_CHECKING:
    from adaln.processes.config import GaussianConfig as GaussianConfig
    from adaln.processes.config import Guidance as Guidance
    from adaln.processes.config import InterpolantConfig as InterpolantConfig
    from adaln.processes.gaussian import GaussianDiffusion as GaussianDiffusion
    from adaln.processes.guidance import guided as guided
    from adaln.processes.interpolant import Interpolant as Interpolant
    from adaln.processes.registry import PROCESSES as PROCESSES
    from adaln.processes.registry import SOLVERS as SOLVERS
    from adaln.processes.registry import SamplerConfig as SamplerConfig
    from adaln.processes.registry import Solver as Solver
    from adaln.processes.solvers import count_updates as count_updates
    from adaln.processes.solvers import solve as solve
    from adaln.processes.solvers import solver_name as solver_name
    from adaln.specs import ProcessConfig as ProcessConfig

__getattr__, __all__ = lazily(__name__)
