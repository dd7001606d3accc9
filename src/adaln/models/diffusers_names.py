"""DiT's weights under the names that the diffusers library gives them (`DiTTransformer2DModel`), and back.

Three things differ beyond names. Attention's fused q, k, v are three tensors there. Every block there holds its own
copy of the time and label embedders, of which DiT has one. And its position table is not stored but made anew.

A fourth cannot be stored: diffusers spaces the time frequencies as 10000^(-i/127), DiT (and `adaln`) as 10000^(-i/128),
so a released DiT does not compute there exactly what it was trained to. On a loaded diffusers model
`block.norm1.emb.time_proj.downscale_freq_shift = 0`, for every block, mends it.
"""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from adaln.models.dit import DiTConfig
from adaln.types import DataSpec

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


def is_diffusers(tensors: Mapping[str, Tensor]) -> bool:
    """Whether the names are those of diffusers' DiT."""
    return "pos_embed.proj.weight" in tensors


def from_diffusers(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same weights under DiT's own names, `pos_embed` missing; names that diffusers does not use are kept.

    Raises ValueError where two blocks hold different embedders, for which DiT has no place.
    """
    renamed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        block = _BLOCK.fullmatch(name)
        ours = _renamed(name, PREFIXES) if block is None else _block_name(block[1], block[2])
        if ours in renamed and not torch.equal(renamed[ours], tensor):
            raise ValueError(
                f"{name!r} differs from other blocks' copies of it: these weights have more than one {ours!r}"
            )
        renamed[ours] = tensor
    return _with_fused_qkv(renamed)


def _block_name(index: str, rest: str) -> str:
    shared = _renamed(rest, EMBEDDER_PREFIXES)
    return shared if shared != rest else f"blocks.{index}.{_renamed(rest, BLOCK_PREFIXES)}"


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
                kind = rest.removeprefix("attn.qkv.")
                renamed |= {
                    f"{prefix}{third}{kind}": part.clone() for third, part in zip(QKV, tensor.chunk(3), strict=True)
                }
            else:
                renamed[prefix + _swapped(rest, BLOCK_PREFIXES)] = tensor
        elif (shared := _swapped(name, EMBEDDER_PREFIXES)) != name:
            renamed |= {f"transformer_blocks.{i}.{shared}": tensor.clone() for i in range(depth)}
        elif name != "pos_embed":
            renamed[_swapped(name, PREFIXES)] = tensor
    return renamed


def _swapped(name: str, prefixes: Mapping[str, str]) -> str:
    return _renamed(name, {theirs: ours for ours, theirs in prefixes.items()})


def diffusers_config(config: object, spec: DataSpec) -> dict[str, Any]:
    """What `DiTTransformer2DModel.from_pretrained` reads of a network; ValueError where diffusers has none like it."""
    fits = isinstance(config, DiTConfig) and not config.drop_variance and config.modulation == "linear"
    if not fits or not isinstance(config, DiTConfig) or config.mlp_ratio != 4:
        raise ValueError(
            f"got {config}, expected a DiT with plain modulation: diffusers' layout serves no other network"
        )
    if spec.height != spec.width or not spec.num_classes or not config.class_dropout_prob:
        raise ValueError(f"got {spec}, expected square data with classes and a null class for diffusers' layout")
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
