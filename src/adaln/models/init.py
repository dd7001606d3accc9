"""How every tensor of a new network starts, before any scheme: a table of name patterns, first match wins.

Whatever the draws, a fresh network outputs exactly 0 and its blocks are the identity (`shared` modulation apart).
"""

import math
from collections.abc import Callable
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

Fill = Callable[[Tensor, torch.Generator], object]
Starts = tuple[tuple[str, Fill], ...]


def zeros(tensor: Tensor, rng: torch.Generator) -> None:
    tensor.zero_()


def normal(std: float) -> Fill:
    """Normal(0, std)."""
    return lambda tensor, rng: tensor.normal_(std=std, generator=rng)


def table_normal(tensor: Tensor, rng: torch.Generator) -> None:
    """Normal(0, 1 / sqrt(D)) over a (6, D) table. Source: PixArt-alpha."""
    tensor.normal_(std=tensor.shape[-1] ** -0.5, generator=rng)


def xavier(tensor: Tensor, rng: torch.Generator) -> None:
    """Uniform within sqrt(6 / (fan_in + fan_out)); the fans of a convolution count its taps, in both directions."""
    nn.init.xavier_uniform_(tensor, generator=rng)


def xavier_flat(tensor: Tensor, rng: torch.Generator) -> None:
    """`xavier` of a convolution read as the linear map (D, C * k * k): its fan_out is D, without the taps."""
    nn.init.xavier_uniform_(tensor.flatten(1), generator=rng)


STARTS: Starts = (
    ("*.bias", zeros),
    ("final_layer.*", zeros),
    ("*.adaLN_modulation*.weight", zeros),
    ("t_embedder*.weight", normal(0.02)),
    ("y_embedder*.weight", normal(0.02)),
    ("x_embedder.proj.weight", xavier_flat),
    ("*.logit_scale", lambda tensor, rng: tensor.fill_(math.log(10))),
    ("*", xavier),
)
SQUEEZED_STARTS: Starts = (("blocks.*.adaLN_modulation.1.weight", xavier), *STARTS)
"""Of the two linear maps only the last is zero: with both at zero neither would ever receive a gradient."""
SHARED_STARTS: Starts = (("t_block.1.weight", normal(0.02)), ("*.scale_shift_table", table_normal), *STARTS)


@torch.no_grad()
def refill(network: nn.Module, starts: Starts, rng: torch.Generator) -> None:
    """Draw all parameters of `network` anew, in their order, from `rng` alone."""
    for name, parameter in network.named_parameters():
        fill = next(fill for pattern, fill in starts if fnmatchcase(name, pattern))
        fill(parameter, rng)
