"""Ours and the peer's, side by side: the same data, the same weights, and how their times are told."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import nn

from adaln.benchmarks.clock import Turns
from adaln.benchmarks.machine import Product, product_rates
from adaln.models import ModelConfig, build
from adaln.rng import generator
from adaln.types import DataSpec

LATENTS = DataSpec(channels=4, height=32, width=32, num_classes=1000)
"""ImageNet's latents at 256 pixels."""
STD = 0.02
"""Of every weight that starts at zero: a fresh network would multiply zeros."""
SIDES = ("ours", "diffusers")
Step = Callable[[], object]
Compiled = Literal["none", "ours", "both"]
"""Which sides torch.compile works for."""


def busy_model(config: ModelConfig, device: torch.device) -> nn.Module:
    """A network none of whose weights is zero."""
    rng = generator("benchmark weights")
    model = build(config, LATENTS, rng)
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():
                parameter.normal_(std=STD, generator=rng)
    return model.to(device)


def compared(num_flops: int, turns: Turns, products: Sequence[Product]) -> dict[str, Any]:
    """Medians and least times of both sides: in seconds, as shares of each product's rate, and against each other.

    Share = the network's operations / seconds / the rate of the product: all that is not a product counts as loss.
    """
    rates = product_rates(products, turns)
    found: dict[str, Any] = {"flops": num_flops, "matmul_gigaflops": rates}
    for which, taken in (("median", turns.median()), ("least", turns.least())):
        found[which] = {
            "seconds": {side: taken[side] for side in SIDES},
            "share_of_matmul_rate": {
                kind: {side: num_flops / 1e9 / taken[side] / rate for side in SIDES} for kind, rate in rates.items()
            },
            "times_faster": taken["diffusers"] / taken["ours"],
        }
    return found
