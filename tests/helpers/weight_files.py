"""Small weights under the names of DiT, for tests of files."""

import torch
from torch import Tensor

from adaln.rng import generator


def dit_weights(seed: int = 0, depth: int = 2) -> dict[str, Tensor]:
    """A width of 8, gates, scales and shifts in every block and the last layer."""
    shapes: dict[str, tuple[int, ...]] = {"x_embedder.proj.weight": (8, 1, 2, 2), "x_embedder.proj.bias": (8,)}
    for block in range(depth):
        shapes[f"blocks.{block}.attn.proj.weight"] = (8, 8)
        shapes[f"blocks.{block}.adaLN_modulation.1.weight"] = (48, 8)
        shapes[f"blocks.{block}.adaLN_modulation.1.bias"] = (48,)
    shapes |= {"final_layer.adaLN_modulation.1.weight": (16, 8), "final_layer.linear.weight": (4, 8)}
    rng = generator("weight files", seed)
    return {name: torch.randn(shape, generator=rng) for name, shape in shapes.items()}


def under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors with a prefix before every name."""
    return {prefix + name: tensor for name, tensor in tensors.items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    """Whether names and values are equal."""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
