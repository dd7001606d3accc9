"""Networks under their published parameter names: one file each, and a registry of their sizes by name."""

from adaln.models.dit import DiTConfig, LLaMAConfig
from adaln.models.network import ModelConfig, Network
from adaln.models.registry import MODELS, build, flops, null_label, num_parameters, skeleton
from adaln.models.udit import UDiTConfig

__all__ = [
    "MODELS",
    "DiTConfig",
    "LLaMAConfig",
    "ModelConfig",
    "Network",
    "UDiTConfig",
    "build",
    "flops",
    "null_label",
    "num_parameters",
    "skeleton",
]
