"""Weights of other people: read from a file without running code, fitted to a network, refused in one line.

Released networks of all our families use our parameter names; diffusers' DiT (`DiTTransformer2DModel`) is translated.
Three things differ there beyond names. Attention's fused q, k, v are three tensors. Every block holds its own copy of
the time and label embedders, of which DiT has one. And the position table is not stored but made anew.

A fourth cannot be stored: diffusers spaces the time frequencies as 10000^(-i/127), DiT (and `adaln`) as 10000^(-i/128),
so a released DiT does not compute there exactly what it was trained to. On a loaded diffusers model
`block.norm1.emb.time_proj.downscale_freq_shift = 0`, for every block, mends it.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from adaln.files import reading
from adaln.models.config import ModelConfig
from adaln.models.dit_config import DiTConfig
from adaln.models.network import Network
from adaln.models.registry import MODELS, skeleton
from adaln.registry import nearest
from adaln.tensor_files import OpenedWeights, WeightSet, misfit, open_weights
from adaln.types import DataSpec, NonFinite


@dataclass(frozen=True, slots=True, eq=False)
class Weights(OpenedWeights):
    """Tensors by DiT's own names, and how they came."""

    layout: Literal["official", "diffusers"]
    settings: dict[str, Any]
    """What the config.json beside diffusers' weights says; else empty."""


def read_weights(path: Path, wanted: WeightSet | None = None, prefix: str = "") -> Weights:
    """The weights that `open_weights` finds, by DiT's own names whether DiT's code or diffusers wrote them."""
    opened = open_weights(path, wanted, prefix)
    tensors = dict(opened.tensors)
    if "pos_embed.proj.weight" not in tensors:  # as diffusers' DiT has it
        return Weights(tensors, opened.file, opened.taken, "official", {}, notes=opened.notes)
    beside = opened.file.with_name("config.json")
    with reading(beside, "the config of a diffusers model"):
        settings = dict(json.loads(beside.read_text(encoding="utf-8"))) if beside.is_file() else {}
    return Weights(from_diffusers(tensors), opened.file, opened.taken, "diffusers", settings, notes=opened.notes)


def spec_of(weights: Weights, config: ModelConfig, size: tuple[int, ...] = ()) -> DataSpec:
    """The data that the weights are for: channels and classes from their shapes, height and width from `pos_embed`.

    `size` (side, or height and width) is for weights that do not tell: U-DiT's, and diffusers' without their config.
    Raises ValueError where neither tells, or where `size` is not one or two numbers.
    """
    tensors = weights.tensors
    name = "x_embedder.proj.weight"
    if name not in tensors or tensors[name].ndim < 2:
        raise ValueError(f"{str(weights.file)!r} holds no network of ours: it has no {name!r}{nearest(name, tensors)}")
    num_channels = tensors[name].shape[1]
    tables = [key for key in sorted(tensors) if re.fullmatch(r"y_embedder\w*\.embedding_table\.weight", key)]
    num_classes = len(tensors[tables[0]]) - (config.class_dropout_prob > 0) if tables else 0
    if len(size) > 2:
        raise ValueError(f"size is {' '.join(map(str, size))}; expected one side, or height and width")
    if not size and "sample_size" in weights.settings:
        side = weights.settings["sample_size"]
        if not isinstance(side, int):
            raise ValueError(f"{str(weights.file)!r} has a config.json with sample_size {side!r}; expected --size")
        size = (side,)
    if any(side < 1 for side in size):
        raise ValueError(f"size is {' '.join(map(str, size))}; expected whole numbers >= 1")
    size = size or config.data_size(tensors) or ()
    if not size:
        raise ValueError(
            f"{str(weights.file)!r} does not tell the size of its data; expected --size (published: 32, 64)"
        )
    return DataSpec(num_channels, size[0], size[-1], num_classes)


def load_weights(weights: Weights, config: ModelConfig, spec: DataSpec) -> Network:
    """The network of `config` holding these weights, in float32; what is fixed and was not saved is computed.

    Raises ValueError in one line: which registered network they do fit, every wrong name and shape, or what is not
    finite.
    """
    tensors, model = dict(weights.tensors), skeleton(config, spec)
    if not isinstance(model, Network):
        raise ValueError(f"the network is {config.describe()}; expected one of our own, yours are loaded by its code")
    fixed = model.fixed()
    if weights.layout == "diffusers" and fixed:
        check_settings(weights.settings, config, spec)
    tensors = fixed | tensors
    wrong = misfit(model.state_dict(), tensors)
    if wrong:
        fitting = " or ".join(fitting_models(weights, tensors, spec))
        what = f"holds the weights of {fitting}, not of the model asked for" if fitting else f"does not fit: {wrong}"
        raise ValueError(f"{str(weights.file)!r} {what}")
    model.load_state_dict({name: tensor.float() for name, tensor in tensors.items()}, assign=True)
    if bad := next((name for name, tensor in model.state_dict().items() if not tensor.isfinite().all()), None):
        raise NonFinite(f"{str(weights.file)!r}: {bad!r} is not finite")
    return model


def check_settings(settings: Mapping[str, Any], config: ModelConfig, spec: DataSpec) -> None:
    """ValueError where diffusers' config.json describes another network than `config`, also where no shape would tell.

    `norm_eps` may differ: diffusers' released DiT says 1e-5 for the MLP's norm, the network it was made from has 1e-6.
    """
    for name, expected in diffusers_config(config, spec).items():
        if name not in ("norm_eps", "_class_name") and settings.get(name, expected) != expected:
            raise ValueError(f"config.json says {name} {settings[name]!r}; expected {expected!r} as of the model")


def fitting_models(weights: Weights, tensors: Mapping[str, Tensor], spec: DataSpec) -> list[str]:
    """The registered networks with exactly these names and shapes, for `spec` where the weights do not tell theirs."""
    width = len(tensors["x_embedder.proj.weight"])
    fitting = []
    for name, config in MODELS.items():
        if config.hidden_size != width:  # building them all takes seconds
            continue
        try:
            data = spec_of(weights, config) if "pos_embed" in weights.tensors else spec
            expected = skeleton(config, data).state_dict()
        except ValueError:  # a size that this network does not take
            continue
        if not misfit(expected, tensors):
            fitting.append(name)
    return fitting


PREFIXES = {
    "x_embedder.proj.": "pos_embed.proj.",
    "final_layer.adaLN_modulation.1.": "proj_out_1.",
    "final_layer.linear.": "proj_out_2.",
}
"""Ours -> diffusers', outside of the blocks."""
BLOCK_PREFIXES = {
    "adaLN_modulation.1.": "norm1.linear.",
    "attn.proj.": "attn1.to_out.0.",
    "mlp.fc1.": "ff.net.0.proj.",
    "mlp.fc2.": "ff.net.2.",
}
QKV = tuple(f"attn1.to_{letter}." for letter in "qkv")
EMBEDDER_PREFIXES = {
    "t_embedder.mlp.0.": "norm1.emb.timestep_embedder.linear_1.",
    "t_embedder.mlp.2.": "norm1.emb.timestep_embedder.linear_2.",
    "y_embedder.": "norm1.emb.class_embedder.",
}
"""Ours, once -> diffusers', in every block."""
_BLOCK = re.compile(r"transformer_blocks\.(\d+)\.(.*)")


def from_diffusers(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same weights under DiT's own names, `pos_embed` missing; names that diffusers does not use are kept.

    Raises ValueError where two blocks hold different embedders, for which DiT has no place.
    """
    renamed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        block = _BLOCK.fullmatch(name)
        if block is None:
            ours = _renamed(name, PREFIXES)
        elif (ours := _renamed(block[2], EMBEDDER_PREFIXES)) == block[2]:  # not one that all blocks have a copy of
            ours = f"blocks.{block[1]}.{_renamed(block[2], BLOCK_PREFIXES)}"
        if ours in renamed and not torch.equal(renamed[ours], tensor):
            raise ValueError(
                f"{name!r} differs from other blocks' copies of it: these weights have more than one {ours!r}"
            )
        renamed[ours] = tensor
    return _with_fused_qkv(renamed)


def _renamed(name: str, prefixes: Mapping[str, str]) -> str:
    for ours, theirs in prefixes.items():
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    return name


def _with_fused_qkv(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """q, k and v of a block as one tensor, wherever all three are there."""
    fused = dict(tensors)
    for name in tensors:
        thirds = [name.replace(QKV[0], third) for third in QKV]
        if QKV[0] in name and all(third in tensors for third in thirds):
            fused[name.replace(QKV[0], "attn.qkv.")] = torch.cat([fused.pop(third) for third in thirds])
    return fused


def to_diffusers(tensors: Mapping[str, Tensor], depth: int) -> dict[str, Tensor]:
    """The inverse of `from_diffusers` for a network of `depth` blocks, without the position table."""
    renamed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        block = re.fullmatch(r"blocks\.(\d+)\.(.*)", name)
        if block is not None:
            prefix, rest = f"transformer_blocks.{block[1]}.", block[2]
            if rest.startswith("attn.qkv."):
                for third, part in zip(QKV, tensor.chunk(3), strict=True):
                    renamed[prefix + rest.replace("attn.qkv.", third)] = part.clone()
            else:
                renamed[prefix + _swapped(rest, BLOCK_PREFIXES)] = tensor
        elif (shared := _swapped(name, EMBEDDER_PREFIXES)) != name:
            renamed |= {f"transformer_blocks.{i}.{shared}": tensor.clone() for i in range(depth)}
        elif name != "pos_embed":
            renamed[_swapped(name, PREFIXES)] = tensor
    return renamed


def _swapped(name: str, prefixes: Mapping[str, str]) -> str:
    return _renamed(name, {theirs: ours for ours, theirs in prefixes.items()})


def diffusers_config(config: ModelConfig, spec: DataSpec) -> dict[str, Any]:
    """What `DiTTransformer2DModel.from_pretrained` reads of a network; ValueError where diffusers has none like it."""
    is_plain = isinstance(config, DiTConfig) and not config.drop_variance and config.is_plain
    if not is_plain or not isinstance(config, DiTConfig) or config.mlp_ratio != 4:
        wide = f", mlp_ratio {config.mlp_ratio:g}" if isinstance(config, DiTConfig) and config.mlp_ratio != 4 else ""
        raise ValueError(
            f"the network is {config.describe()}{wide}; diffusers' layout serves no other than a DiT with plain"
            " modulation, whose MLP is 4 times as wide: expected --layout official"
        )
    if spec.height != spec.width or not spec.num_classes or not config.class_dropout_prob:
        raise ValueError(
            f"the data is {spec.height} x {spec.width} with {spec.num_classes} classes, left out with probability"
            f" {config.class_dropout_prob:g}; expected square data with classes and a null class for diffusers' layout"
        )
    return {
        "_class_name": "DiTTransformer2DModel",
        "activation_fn": "gelu-approximate",
        "attention_bias": True,
        "attention_head_dim": config.hidden_size // config.num_heads,
        "in_channels": spec.channels,
        "norm_elementwise_affine": False,
        "norm_eps": 1e-6,
        "norm_type": "ada_norm_zero",
        "num_attention_heads": config.num_heads,
        "num_embeds_ada_norm": spec.num_classes,
        "num_layers": config.depth,
        "out_channels": spec.channels * config.outputs_per_channel,
        "patch_size": config.patch_size,
        "sample_size": spec.height,
    }
