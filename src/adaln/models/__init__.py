"""Networks by name: `build(MODELS["DiT-XL/2"], spec, rng)`.

Parameter names are the published ones, so released weights load. Networks know neither schemes nor processes.
"""

from dataclasses import replace
from functools import cache
from itertools import product

import torch
from torch.utils.flop_counter import FlopCounterMode

from adaln.models.dit import DiT, DiTConfig
from adaln.models.llama import LLaMAConfig
from adaln.models.udit import UDiT, UDiTConfig
from adaln.registry import Registry
from adaln.types import DataSpec

__all__ = [
    "MODELS",
    "DiTConfig",
    "LLaMAConfig",
    "ModelConfig",
    "UDiTConfig",
    "build",
    "flops",
    "null_label",
    "num_parameters",
    "skeleton",
]

ModelConfig = DiTConfig | LLaMAConfig | UDiTConfig

WIDTH_DEPTH_HEADS = {"S": (384, 12, 6), "B": (768, 12, 12), "L": (1024, 24, 16), "XL": (1152, 28, 16)}
LLAMA_SIZES = {"DiT-LLaMA": ("B/4", "L/4", "XL/4", "XL/2"), "SiT-LLaMA": ("S/2", "B/2", "L/2", "XL/2")}
UDIT_SIZES = {
    "S": UDiTConfig(hidden_size=96, num_heads=4),
    "B": UDiTConfig(hidden_size=192, num_heads=8),
    "L": UDiTConfig(hidden_size=384, num_heads=16),
    "IPT1K": UDiTConfig(hidden_size=48, num_heads=2, depth=(2, 3, 4, 3, 2)),
    "tiny": UDiTConfig(hidden_size=16, num_heads=4, depth=(1, 1, 1, 1, 1)),
}
"""IPT1K exists in the published code only, without released weights."""
TINY = (64, 4, 4, 2)
"""Width, depth, heads and patch of the sizes for a CPU and 8 x 8 images."""


def _published() -> dict[str, ModelConfig]:
    entries: dict[str, ModelConfig] = {}
    for family, size, patch in product(("DiT", "SiT"), WIDTH_DEPTH_HEADS, (2, 4, 8)):
        entries[f"{family}-{size}/{patch}"] = DiTConfig(*WIDTH_DEPTH_HEADS[size], patch, drop_variance=family == "SiT")
    for family, sizes in LLAMA_SIZES.items():
        for size in sizes:
            letters, side = size.split("/")
            entries[f"{family}-{size}"] = LLaMAConfig(
                *WIDTH_DEPTH_HEADS[letters], int(side), drop_variance=family == "SiT-LLaMA"
            )
    return entries | {f"U-DiT-{size}": config for size, config in UDIT_SIZES.items()}


def _tiny() -> dict[str, ModelConfig]:
    return {
        "tiny": DiTConfig(*TINY),
        "SiT-tiny": DiTConfig(*TINY, drop_variance=True),
        "DiT-LLaMA-tiny": LLaMAConfig(*TINY),
        "SiT-LLaMA-tiny": LLaMAConfig(*TINY, drop_variance=True),
    }


def _with_other_modulations(entries: dict[str, ModelConfig]) -> dict[str, ModelConfig]:
    """DiT and SiT at patch 2 once more with the SE bottleneck and with PixArt's shared modulation."""
    others: dict[str, ModelConfig] = {}
    for name, config in entries.items():
        if isinstance(config, DiTConfig) and config.patch_size == 2:
            others[f"{name}-SE"] = replace(config, modulation="se")
            others[f"{name}-shared"] = replace(config, modulation="shared")
    return entries | others


MODELS: Registry[ModelConfig] = Registry("model", _with_other_modulations(_published() | _tiny()))


def skeleton(config: ModelConfig, spec: DataSpec) -> DiT | UDiT:
    """The network without its numbers, on the meta device: names and shapes at no cost."""
    with torch.device("meta"):
        return UDiT(config, spec) if isinstance(config, UDiTConfig) else DiT(config, spec)


def build(config: ModelConfig, spec: DataSpec, rng: torch.Generator) -> DiT | UDiT:
    """A fresh network on the device of `rng`, which decides all its weights; its output is exactly 0.

    Inside `with torch.device("meta")` it is the `skeleton`, and `rng` is left alone.
    """
    model = skeleton(config, spec)
    if torch.empty(0).is_meta:
        return model
    model.to_empty(device=rng.device).reset(rng)
    return model


def null_label(config: ModelConfig, spec: DataSpec) -> int | None:
    """The label that stands for "no class", or None where the network has no such row."""
    return spec.num_classes if spec.num_classes and config.class_dropout_prob > 0 else None


def num_parameters(config: ModelConfig, spec: DataSpec) -> int:
    """Trainable parameters: without DiT's frozen position table, which published counts include."""
    return sum(parameter.numel() for parameter in skeleton(config, spec).parameters())


@cache
def flops(config: ModelConfig, spec: DataSpec) -> int:
    """Floating-point operations of a forward pass, per sample; one multiply-add is 2.

    Counts linear maps, convolutions and attention products, no norms, activations or modulation products. Papers of
    these families print half of it, multiply-adds, under the name "Gflops". U-DiT's is that of one more sample in a
    large batch: kernels are multiplied with each other once per batch.
    """
    if isinstance(config, UDiTConfig):
        return (_batch_flops(config, spec, 8192) - _batch_flops(config, spec, 4096)) // 4096
    one, two = (_batch_flops(replace(config, depth=depth), spec, 1) for depth in (1, 2))
    return one + (config.depth - 1) * (two - one)  # all blocks are alike


@torch.no_grad()
def _batch_flops(config: ModelConfig, spec: DataSpec, batch: int) -> int:
    model = skeleton(config, spec)
    x = torch.empty(batch, spec.channels, spec.height, spec.width, device="meta")
    y = torch.empty(batch, dtype=torch.long, device="meta") if model.num_labels else None
    with FlopCounterMode(display=False) as counter:
        model(x, torch.empty(batch, device="meta"), y)
    return int(counter.get_total_flops())
