"""Networks under their published parameter names: one file each, and a registry of their sizes by name."""

from adaln.models.dit import DiTConfig as DiTConfig
from adaln.models.dit import LLaMAConfig as LLaMAConfig
from adaln.models.network import ModelConfig as ModelConfig
from adaln.models.network import Network as Network
from adaln.models.registry import MODELS as MODELS
from adaln.models.registry import build as build
from adaln.models.registry import flops as flops
from adaln.models.registry import null_label as null_label
from adaln.models.registry import num_parameters as num_parameters
from adaln.models.registry import skeleton as skeleton
from adaln.models.udit import UDiTConfig as UDiTConfig
