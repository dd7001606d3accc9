"""Networks under their published parameter names: configs, one file for each network, a registry of sizes by name."""

from typing import TYPE_CHECKING

from adaln.lazily import lazily

if TYPE_CHECKING:
    from adaln.models.config import ModelConfig as ModelConfig
    from adaln.models.dit_config import DiTConfig as DiTConfig
    from adaln.models.dit_config import LLaMAConfig as LLaMAConfig
    from adaln.models.network import Network as Network
    from adaln.models.own_config import OwnConfig as OwnConfig
    from adaln.models.own_config import own_network as own_network
    from adaln.models.registry import MODELS as MODELS
    from adaln.models.registry import build as build
    from adaln.models.registry import flops as flops
    from adaln.models.registry import model_named as model_named
    from adaln.models.registry import null_label as null_label
    from adaln.models.registry import num_parameters as num_parameters
    from adaln.models.registry import skeleton as skeleton
    from adaln.models.udit_config import UDiTConfig as UDiTConfig
    from adaln.models.widths import mup_factors as mup_factors

__getattr__, __all__ = lazily(__name__)
