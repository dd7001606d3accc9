"""How learning rates follow the width of a network: muP, the maximal update parametrisation.

Source: Yang et al. 2022, "Tensor Programs V: Tuning Large Neural Networks via Zero-Shot Hyperparameter Transfer"
(arXiv 2203.03466), Table 3 for Adam: of a matrix whose inputs grow with the width the learning rate falls as these
grow; of all else (biases, tables, matrices of fixed inputs) it stays.
"""

from torch import nn

from adaln.models.config import ModelConfig
from adaln.models.own_config import OwnConfig
from adaln.models.registry import skeleton
from adaln.specs import DataSpec


def mup_factors(config: ModelConfig, spec: DataSpec, base_width: int) -> dict[str, float]:
    """Of each matrix whose inputs are not those at `base_width`: its inputs there over its own, by its name.

    `ValueError` for a network of which there is none so wide.
    """
    if isinstance(config, OwnConfig):
        raise ValueError(f"optim.mup is {base_width}, and {config.describe()} has one width; expected none")
    try:
        base = _num_inputs(skeleton(config.resized(hidden_size=base_width, num_heads=1), spec))
    except ValueError as error:
        raise ValueError(f"optim.mup is {base_width}, no width of {config.describe()}: {error}") from None
    own = _num_inputs(skeleton(config, spec))
    return {name: base[name] / inputs for name, inputs in own.items() if base[name] != inputs}


def _num_inputs(model: nn.Module) -> dict[str, int]:
    """Inputs of one output of every linear map and convolution, by the name of its weight."""
    maps = {name: one for name, one in model.named_modules() if isinstance(one, nn.Linear | nn.Conv2d)}
    return {f"{name}.weight": one.weight[0].numel() for name, one in maps.items()}
