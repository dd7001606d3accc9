"""The public peer, diffusers' DiT, beside ours: the same data, the same weights, and how their times are told."""

# mypy: disable-error-code="no-untyped-call"

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from adaln.benchmarks.machine import Product, Turns, product_rates
from adaln.models import ModelConfig, build
from adaln.models.weights import diffusers_config, to_diffusers
from adaln.rng import generator
from adaln.types import DataSpec, Model

T = TypeVar("T")
LATENTS = DataSpec(channels=4, height=32, width=32, num_classes=1000)
"""ImageNet's latents at 256 pixels."""
STD = 0.02
"""Of every weight that starts at zero: a fresh network would multiply zeros."""
CONTENDERS = ("ours", "diffusers")
Step = Callable[[], object]


def busy_model(config: ModelConfig, device: torch.device) -> nn.Module:
    """A network none of whose weights is zero."""
    rng = generator("benchmark weights")
    model = build(config, LATENTS, rng)
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():
                parameter.normal_(std=STD, generator=rng)
    return model.to(device)


def peer_of(model: nn.Module, config: ModelConfig, spec: DataSpec) -> nn.Module:
    """diffusers' DiT with the weights of ours, so that both compute one function; `ValueError` if it has none like it.

    Its time frequencies are set to DiT's own (10000^(-i/128)), and no block of it drops labels by itself.
    """
    from diffusers import DiTTransformer2DModel

    words = {key: value for key, value in diffusers_config(config, spec).items() if not key.startswith("_")}
    made: Any = DiTTransformer2DModel(**words)
    peer: nn.Module = made
    depth = words["num_layers"]
    missing, unexpected = peer.load_state_dict(to_diffusers(model.state_dict(), depth), strict=False)
    if unexpected or any(not name.endswith("pos_embed.pos_embed") for name in missing):
        raise ValueError(f"diffusers' DiT does not take our names: {[*missing, *unexpected][:3]}")
    for block in peer.get_submodule("transformer_blocks").children():
        block.get_submodule("norm1.emb.time_proj").downscale_freq_shift = 0  # type: ignore[assignment]
        block.get_submodule("norm1.emb.class_embedder").dropout_prob = 0  # type: ignore[assignment]
    return peer.to(next(model.parameters()).device)


def called_like_ours(peer: nn.Module) -> Model:
    """(noisy latents, times, labels) -> prediction, by diffusers' network."""

    def model(x: Tensor, t: Tensor, y: Tensor | None) -> Tensor:
        output: Tensor = peer(x, timestep=t, class_labels=y).sample
        return output

    return model


def made(sides: Mapping[str, Callable[[], T]]) -> tuple[dict[str, T], dict[str, str]]:
    """What can be made of the sides, and why another cannot: diffusers is not installed, or the device has no room.

    `ValueError` where there is none at all.
    """
    there: dict[str, T] = {}
    left_out: dict[str, str] = {}
    for name, make in sides.items():
        try:
            there[name] = make()
        except ModuleNotFoundError as error:
            left_out[name] = f"{error.name} is not installed"
        except torch.OutOfMemoryError:
            left_out[name] = "does not fit"
    if not there:
        raise ValueError(f"nothing to measure: {', '.join(f'{name} {why}' for name, why in left_out.items())}")
    return there, left_out


def compared(num_flops: int, turns: Turns, products: Sequence[Product]) -> dict[str, Any]:
    """Both in seconds, as shares of each product's rate by the same clock, and against each other.

    A side that could not be made is not there, and nothing is faster than it.
    Share = the network's operations / seconds / the rate of the product: all that is not a product counts as loss.
    `processor`: medians of the seconds of all threads, which say more where other work shares a CPU with one thread.
    """
    row: dict[str, Any] = {"flops": num_flops}
    clocks = {"median": turns.median(), "least": turns.least(), "processor": turns.median("processor")}
    for clock, taken in clocks.items():
        seconds, rates = {name: taken[name] for name in CONTENDERS if name in taken}, product_rates(products, taken)
        row[clock] = {
            "seconds": seconds,
            "matmul_gigaflops": rates,
            "share_of_matmul_rate": {
                kind: {name: num_flops / 1e9 / each / rate for name, each in seconds.items()}
                for kind, rate in rates.items()
            },
            "times_faster": seconds["diffusers"] / seconds["ours"] if len(seconds) == len(CONTENDERS) else None,
        }
    return row
