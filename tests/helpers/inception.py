"""Tensors of ADM's Inception: the published names and shapes, and random weights in them."""

from functools import cache

import numpy as np
import torch
from torch import Tensor

from adaln.rng import generator


def conv(name: str, inputs: int, outputs: int, height: int, width: int) -> dict[str, tuple[int, ...]]:
    norm = {f"{name}.bn.{part}": (outputs,) for part in ("weight", "bias", "running_mean", "running_var")}
    return {f"{name}.conv.weight": (outputs, inputs, height, width)} | norm


def documented_shapes() -> dict[str, tuple[int, ...]]:
    """Every tensor of the published network, written out from Szegedy et al. (2016) and the port's key names."""
    rows: list[tuple[str, int, int, int, int]] = [
        ("Conv2d_1a_3x3", 3, 32, 3, 3),
        ("Conv2d_2a_3x3", 32, 32, 3, 3),
        ("Conv2d_2b_3x3", 32, 64, 3, 3),
        ("Conv2d_3b_1x1", 64, 80, 1, 1),
        ("Conv2d_4a_3x3", 80, 192, 3, 3),
    ]
    for name, inputs, pool in (("Mixed_5b", 192, 32), ("Mixed_5c", 256, 64), ("Mixed_5d", 288, 64)):
        rows += [(f"{name}.branch1x1", inputs, 64, 1, 1), (f"{name}.branch_pool", inputs, pool, 1, 1)]
        rows += [(f"{name}.branch5x5_1", inputs, 48, 1, 1), (f"{name}.branch5x5_2", 48, 64, 5, 5)]
        rows += [(f"{name}.branch3x3dbl_1", inputs, 64, 1, 1)]
        rows += [(f"{name}.branch3x3dbl_2", 64, 96, 3, 3), (f"{name}.branch3x3dbl_3", 96, 96, 3, 3)]
    rows += [("Mixed_6a.branch3x3", 288, 384, 3, 3), ("Mixed_6a.branch3x3dbl_1", 288, 64, 1, 1)]
    rows += [("Mixed_6a.branch3x3dbl_2", 64, 96, 3, 3), ("Mixed_6a.branch3x3dbl_3", 96, 96, 3, 3)]
    for name, c in (("Mixed_6b", 128), ("Mixed_6c", 160), ("Mixed_6d", 160), ("Mixed_6e", 192)):
        rows += [(f"{name}.branch1x1", 768, 192, 1, 1), (f"{name}.branch_pool", 768, 192, 1, 1)]
        rows += [(f"{name}.branch7x7_1", 768, c, 1, 1), (f"{name}.branch7x7_2", c, c, 1, 7)]
        rows += [(f"{name}.branch7x7_3", c, 192, 7, 1), (f"{name}.branch7x7dbl_1", 768, c, 1, 1)]
        rows += [(f"{name}.branch7x7dbl_2", c, c, 7, 1), (f"{name}.branch7x7dbl_3", c, c, 1, 7)]
        rows += [(f"{name}.branch7x7dbl_4", c, c, 7, 1), (f"{name}.branch7x7dbl_5", c, 192, 1, 7)]
    rows += [("Mixed_7a.branch3x3_1", 768, 192, 1, 1), ("Mixed_7a.branch3x3_2", 192, 320, 3, 3)]
    rows += [("Mixed_7a.branch7x7x3_1", 768, 192, 1, 1), ("Mixed_7a.branch7x7x3_2", 192, 192, 1, 7)]
    rows += [("Mixed_7a.branch7x7x3_3", 192, 192, 7, 1), ("Mixed_7a.branch7x7x3_4", 192, 192, 3, 3)]
    for name, inputs in (("Mixed_7b", 1280), ("Mixed_7c", 2048)):
        rows += [(f"{name}.branch1x1", inputs, 320, 1, 1), (f"{name}.branch_pool", inputs, 192, 1, 1)]
        rows += [(f"{name}.branch3x3_1", inputs, 384, 1, 1), (f"{name}.branch3x3dbl_1", inputs, 448, 1, 1)]
        rows += [(f"{name}.branch3x3_2a", 384, 384, 1, 3), (f"{name}.branch3x3_2b", 384, 384, 3, 1)]
        rows += [(f"{name}.branch3x3dbl_2", 448, 384, 3, 3), (f"{name}.branch3x3dbl_3a", 384, 384, 1, 3)]
        rows += [(f"{name}.branch3x3dbl_3b", 384, 384, 3, 1)]
    shapes = {"fc.weight": (1008, 2048), "fc.bias": (1008,)}
    for row in rows:
        shapes |= conv(*row)
    return shapes


def seeded_weights() -> dict[str, Tensor]:
    """Random weights whose activations keep their size through the depth."""
    return dict(_seeded_weights())


@cache
def _seeded_weights() -> dict[str, Tensor]:
    weights = {}
    for name, shape in documented_shapes().items():
        rng = generator("inception test", name)
        if len(shape) > 1:
            weights[name] = torch.randn(shape, generator=rng) * (2 / np.prod(shape[1:])) ** 0.5
        elif name.endswith(("bn.weight", "running_var")):
            weights[name] = 0.5 + torch.rand(shape, generator=rng)
        else:
            weights[name] = 0.1 * torch.randn(shape, generator=rng)
    return weights
