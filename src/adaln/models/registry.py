"""Networks by name: `build(MODELS["DiT-XL/2"], spec, rng)`.

Parameter names are the published ones, so released weights load. Networks know neither schemes nor processes.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

from adaln.codec import name_kinds
from adaln.models.config import Counts, ModelConfig
from adaln.models.dit_config import DiTConfig, LLaMAConfig
from adaln.models.mechanism import ModulationKind
from adaln.models.own_config import OwnConfig, own_network
from adaln.models.udit_config import UDiTConfig
from adaln.registry import Registry, check_no_code_file
from adaln.specs import DataSpec

if TYPE_CHECKING:
    import torch

WIDTH_DEPTH_HEADS = {"S": (384, 12, 6), "B": (768, 12, 12), "L": (1024, 24, 16), "XL": (1152, 28, 16)}
LLAMA_SIZES = {"DiT": ("B/4", "L/4", "XL/4", "XL/2"), "SiT": ("S/2", "B/2", "L/2", "XL/2")}
TINY = (64, 4, 4, 2)
"""Width, depth, heads and patch of the sizes for a CPU and 8 x 8 images."""

_SIZES = {f"{letters}/{patch}": (*sizes, patch) for letters, sizes in WIDTH_DEPTH_HEADS.items() for patch in (2, 4, 8)}
_DIT = {
    f"{family}-{size}": DiTConfig(*_SIZES[size], drop_variance=family == "SiT")
    for family in ("DiT", "SiT")
    for size in _SIZES
}
_TINY_DIT = {"tiny": DiTConfig(*TINY), "SiT-tiny": DiTConfig(*TINY, drop_variance=True)}
_OTHER_MODULATIONS: Mapping[str, ModulationKind] = {"SE": "se", "shared": "shared"}
_IN_CONTEXT = {
    f"{name}-in-context": replace(config, modulation="in-context", gate="static", class_tokens=8, time_tokens=4)
    for name, config in _DIT.items()
    if config.patch_size == 2
}
"""DiT and SiT at patch 2 without adaLN, with as many tokens for class and time as improved MeanFlow has."""
_WITH_OTHER_MODULATIONS = {
    f"{name}-{suffix}": replace(config, modulation=modulation)
    for name, config in (_DIT | _TINY_DIT).items()
    for suffix, modulation in _OTHER_MODULATIONS.items()
    if config.patch_size == 2
}
"""DiT and SiT at patch 2 once more with the SE bottleneck and with PixArt's shared modulation."""
_LLAMA = {
    f"{family}-LLaMA-{size}": LLaMAConfig(*_SIZES[size], drop_variance=family == "SiT")
    for family, sizes in LLAMA_SIZES.items()
    for size in sizes
}
_TINY_LLAMA = {"DiT-LLaMA-tiny": LLaMAConfig(*TINY), "SiT-LLaMA-tiny": LLaMAConfig(*TINY, drop_variance=True)}
_UDIT = {
    "U-DiT-S": UDiTConfig(hidden_size=96, num_heads=4),
    "U-DiT-B": UDiTConfig(hidden_size=192, num_heads=8),
    "U-DiT-L": UDiTConfig(hidden_size=384, num_heads=16),
    "U-DiT-IPT1K": UDiTConfig(hidden_size=48, num_heads=2, depth=(2, 3, 4, 3, 2)),
    "U-DiT-tiny": UDiTConfig(hidden_size=16, num_heads=4, depth=(1, 1, 1, 1, 1)),
}
"""IPT1K exists in the published code only, without released weights."""

name_kinds({kind.__name__: kind for kind in (DiTConfig, LLaMAConfig, UDiTConfig, OwnConfig)}, of=ModelConfig)
MODELS: Registry[ModelConfig] = Registry(
    "model",
    {**_DIT, **_LLAMA, **_UDIT, **_TINY_DIT, **_TINY_LLAMA, **_WITH_OTHER_MODULATIONS, **_IN_CONTEXT},
    accepts=ModelConfig,
    added=lambda config: name_kinds({type(config).__name__: type(config)}, of=ModelConfig),
)


def model_named(name: str) -> ModelConfig:
    """The network of a name that a user gave: of `MODELS`, or anyone's as `module:factory`, which is imported."""
    if ":" in name:
        return own_network(name)
    if name not in MODELS:
        check_no_code_file(name)
    return MODELS[name]


def skeleton(config: ModelConfig, spec: DataSpec) -> "torch.nn.Module":
    """The network without its numbers, on the meta device: names and shapes at no cost."""
    import torch

    with torch.device("meta"):
        return config.network(spec)


def build(config: ModelConfig, spec: DataSpec, rng: "torch.Generator") -> "torch.nn.Module":
    """A fresh network on the device of `rng`, which decides all its weights; the output of ours is exactly 0.

    Inside `with torch.device("meta")` it is the `skeleton`, and `rng` is left alone.
    """
    import torch

    return skeleton(config, spec) if torch.empty(0).is_meta else config.drawn(spec, rng)


def null_label(config: ModelConfig, spec: DataSpec) -> int | None:
    """The label that stands for "no class", or None where the network has no such row."""
    return spec.num_classes if spec.num_classes and config.class_dropout_prob > 0 else None


def num_parameters(config: ModelConfig, spec: DataSpec) -> int:
    """Trainable parameters: without DiT's frozen position table, which published counts include."""
    return _counts(config, spec).parameters


def flops(config: ModelConfig, spec: DataSpec) -> int:
    """Floating-point operations of a forward pass, per sample; one multiply-add is 2.

    Counts linear maps, convolutions and attention products, no norms, activations or modulation products. Papers of
    these families print half of it, multiply-adds, under the name "Gflops".
    """
    return _counts(config, spec).flops


@cache
def _counts(config: ModelConfig, spec: DataSpec) -> Counts:
    return config.counts(spec)
