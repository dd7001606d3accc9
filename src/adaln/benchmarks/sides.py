"""Ours and the peer's, side by side: the same data, the same weights, and how their times are told."""

from collections.abc import Callable, Mapping, Sequence
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
    """Both sides in seconds, as shares of each product's rate by the same clock, and against each other.

    Share = the network's operations / seconds / the rate of the product: all that is not a product counts as loss.
    `processor`: medians of the seconds of all threads, which say more where other work shares a CPU with one thread.
    """
    clocks = {"median": turns.median(), "least": turns.least(), "processor": turns.median("processor")}
    return {"flops": num_flops} | {clock: by_clock(num_flops, taken, products) for clock, taken in clocks.items()}


def by_clock(num_flops: int, seconds: Mapping[str, float], products: Sequence[Product]) -> dict[str, Any]:
    """`compared` by one clock."""
    rates = product_rates(products, seconds)
    return {
        "seconds": {side: seconds[side] for side in SIDES},
        "matmul_gigaflops": rates,
        "share_of_matmul_rate": {
            kind: {side: num_flops / 1e9 / seconds[side] / rate for side in SIDES} for kind, rate in rates.items()
        },
        "times_faster": seconds["diffusers"] / seconds["ours"],
    }
