"""Every family that is known by its names: a family is one row of a table.

First come the names of the official code, then those of the diffusers library. Names are those of published
weights, orders of chunks those of published code, each shown by behaviour in `tests/conditioning/test_behaviour.py`.
What looks alike is not: `norm_out.linear` holds scale before shift in SD3, Flux, AuraFlow and HunyuanDiT, and shift
before scale in CogVideoX. To add a family is to add its row, or, from another package, to
`adaln.register("family", name, Family(...))` it.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from adaln.conditioning.family import Branch, Family, InputDraw, Layer
from adaln.registry import Registry
from adaln.types import DataSpec

SIX = "attn: shift scale gate; mlp: shift scale gate"
_BLOCK = "blocks.N.adaLN_modulation.*"
_FINAL_LAYER = Layer("final_layer.adaLN_modulation.*", "final: shift scale")
CONTEXT_SIX = "context_attn: shift scale gate; context_mlp: shift scale gate"
_NORM_OUT = Layer("norm_out.linear", "final: scale shift")
_TABLES = (
    Layer("transformer_blocks.N.scale_shift_table", SIX, "table"),
    Layer("scale_shift_table", "final: shift scale", "table"),
)
_CROSS_ATTENDING = {"attn": Branch("attn1"), "mlp": Branch("ff")}
_JOINT = {
    "attn": Branch("attn"),
    "context_attn": Branch("attn", stream="context"),
    "mlp": Branch("ff"),
    "context_mlp": Branch("ff_context", stream="context"),
}
"""Image and context attend together, then each goes through its own MLP."""

_DIT = Family(
    layers=(Layer(_BLOCK, SIX), _FINAL_LAYER),
    branches={"attn": Branch("attn"), "mlp": Branch("mlp")},
    head="final_layer.linear",
    branch_ends="attn.proj mlp.fc2 mlp.c_proj",
)
"""SiT, DiT-LLaMA and LightningDiT too."""


def _flux(config: Any, draw: InputDraw) -> dict[str, Any]:
    side = draw.tokens_per_side
    rows, columns = torch.arange(side).repeat_interleave(side), torch.arange(side).repeat(side)
    return {
        "hidden_states": draw.normal(side**2, config.in_channels),
        "encoder_hidden_states": draw.text(config.joint_attention_dim),
        "pooled_projections": draw.normal(config.pooled_projection_dim),
        "timestep": draw.times(1.0),
        "img_ids": torch.stack([torch.zeros_like(rows), rows, columns], dim=-1),
        "txt_ids": torch.zeros(draw.text_tokens, 3),
        "guidance": torch.full((draw.batch_size,), 3.5) if config.guidance_embeds else None,
    }


def _cogvideox(config: Any, draw: InputDraw) -> dict[str, Any]:
    frames = (config.sample_frames - 1) // config.temporal_compression_ratio + 1
    return {
        "hidden_states": draw.normal(frames, config.in_channels, config.sample_height, config.sample_width),
        "encoder_hidden_states": draw.normal(config.max_text_seq_length, config.text_embed_dim),
        "timestep": draw.times(1000.0),
    }


def _pixart(config: Any, draw: InputDraw) -> dict[str, Any]:
    size = torch.full((draw.batch_size, 2), 1024.0)
    additional = config.use_additional_conditions
    if additional is None:
        additional = config.sample_size == 128  # as the network itself decides
    sizes = {"resolution": size, "aspect_ratio": size[:, :1] / 1024}
    return {
        "hidden_states": draw.image(config),
        "encoder_hidden_states": draw.text(config.caption_channels or config.cross_attention_dim),
        "timestep": draw.times(1000.0),
        "added_cond_kwargs": sizes if additional else {"resolution": None, "aspect_ratio": None},
    }


_ROWS = {
    "DiT": _DIT,
    "LightningDiT-no-shift": replace(_DIT, layers=(Layer(_BLOCK, "attn: scale gate; mlp: scale gate"), _FINAL_LAYER)),
    "adaLN-no-gate": replace(_DIT, layers=(Layer(_BLOCK, "attn: shift scale; mlp: shift scale"), _FINAL_LAYER)),
    "DiT-shared": replace(
        _DIT, layers=(Layer("t_block.*", SIX), Layer("blocks.N.scale_shift_table", SIX, "table"), _FINAL_LAYER)
    ),
    "U-DiT": Family(
        layers=(
            Layer(
                "(encoder_level_1|encoder_level_2|latent|decoder_level_2|decoder_level_1).N.adaLN_modulation#.*",
                "attn#: shift scale gate; mlp#: shift scale gate",
            ),
            _FINAL_LAYER,
        ),
        branches={name: Branch(name) for name in ("attn1", "mlp1", "attn2", "mlp2")},
        head="final_layer.out_proj",
        branch_ends="attn1.to_out mlp1.project_out.1 attn2.to_out mlp2.project_out.1",
    ),
    "diffusers-DiT": Family(
        layers=(Layer("transformer_blocks.N.norm1.linear", SIX), Layer("proj_out_1", "final: shift scale")),
        branches=_CROSS_ATTENDING,
        head="proj_out_2",
        inputs={
            "DiTTransformer2DModel": lambda config, draw: {
                "hidden_states": draw.image(config),
                "timestep": draw.times(1000.0).long(),
                "class_labels": draw.labels(config.num_embeds_ada_norm),
            }
        },
    ),
    "SD3": Family(
        layers=(
            Layer("transformer_blocks.N.norm1.linear", SIX),
            Layer("transformer_blocks.N.norm1.linear", f"{SIX}; attn2: shift scale gate"),
            Layer("transformer_blocks.N.norm1_context.linear", CONTEXT_SIX),
            Layer("transformer_blocks.N.norm1_context.linear", "context_attn: scale shift"),
            _NORM_OUT,
        ),
        branches={**_JOINT, "attn2": Branch("attn2")},
        head="proj_out",
        inputs={
            "SD3Transformer2DModel": lambda config, draw: {
                "hidden_states": draw.image(config),
                "encoder_hidden_states": draw.text(config.joint_attention_dim),
                "pooled_projections": draw.normal(config.pooled_projection_dim),
                "timestep": draw.times(1000.0),
            }
        },
    ),
    "Flux": Family(
        layers=(
            Layer("transformer_blocks.N.norm1.linear", SIX),
            Layer("transformer_blocks.N.norm1_context.linear", CONTEXT_SIX),
            Layer("single_transformer_blocks.N.norm.linear", "attn_and_mlp: shift scale gate"),
            _NORM_OUT,
        ),
        branches={**_JOINT, "attn_and_mlp": Branch("attn", "proj_out", residual="norm")},
        head="proj_out",
        inputs={"FluxTransformer2DModel": _flux},
    ),
    "AuraFlow": Family(
        layers=(
            Layer("joint_transformer_blocks.N.norm1.linear", SIX),
            Layer("joint_transformer_blocks.N.norm1_context.linear", CONTEXT_SIX),
            Layer("single_transformer_blocks.N.norm1.linear", SIX),
            _NORM_OUT,
        ),
        branches=_JOINT,
        head="proj_out",
        inputs={
            "AuraFlowTransformer2DModel": lambda config, draw: {
                "hidden_states": draw.image(config),
                "encoder_hidden_states": draw.text(config.joint_attention_dim),
                "timestep": draw.times(1.0),
            }
        },
    ),
    "CogVideoX": Family(
        layers=(
            *(
                Layer(
                    f"transformer_blocks.N.{norm}.linear",
                    f"{branch}: shift scale gate; context_{branch}: shift scale gate",
                    width_of=".attn1.to_q",
                )
                for norm, branch in (("norm1", "attn"), ("norm2", "mlp"))
            ),
            Layer("norm_out.linear", "final: shift scale", width_of="proj_out"),
        ),
        branches={
            "attn": Branch("attn1"),
            "context_attn": Branch("attn1", stream="context"),
            "mlp": Branch("ff", both_streams=True),
            "context_mlp": Branch("ff", stream="context", both_streams=True),
        },
        head="proj_out",
        inputs={"CogVideoXTransformer3DModel": _cogvideox},
    ),
    "HunyuanDiT": Family(
        layers=(Layer("blocks.N.norm1.linear", "attn: shift"), _NORM_OUT),
        branches={"attn": Branch("attn1")},
        head="proj_out",
        inputs={
            "HunyuanDiT2DModel": lambda config, draw: {
                "hidden_states": draw.image(config),
                "timestep": draw.times(1000.0),
                "encoder_hidden_states": draw.normal(config.text_len, config.cross_attention_dim),
                "text_embedding_mask": torch.ones(draw.batch_size, config.text_len),
                "encoder_hidden_states_t5": draw.normal(config.text_len_t5, config.cross_attention_dim_t5),
                "text_embedding_mask_t5": torch.ones(draw.batch_size, config.text_len_t5),
                "image_meta_size": torch.tensor([[1024, 1024, 1024, 1024, 0, 0]] * draw.batch_size),
                "style": torch.zeros(draw.batch_size, dtype=torch.long),
            }
        },
    ),
    "Lumina2": Family(
        layers=(
            Layer(
                "(noise_refiner|layers).N.norm1.linear",
                "attn: scale gate(tanh); mlp: scale gate(tanh)",
                width_of=".attn.to_q",
            ),
            Layer("norm_out.linear_1", "final: scale", width_of="norm_out.linear_2"),
        ),
        branches={"attn": Branch("attn", "norm2"), "mlp": Branch("feed_forward", "ffn_norm2")},
        head="norm_out.linear_2",
        inputs={
            "Lumina2Transformer2DModel": lambda config, draw: {
                "hidden_states": draw.image(config),
                "timestep": draw.times(1.0),
                "encoder_hidden_states": draw.text(config.cap_feat_dim),
                "encoder_attention_mask": torch.ones(draw.batch_size, draw.text_tokens, dtype=torch.bool),
            }
        },
    ),
    "PixArt": Family(
        layers=(Layer("adaln_single.linear", SIX), *_TABLES),
        branches=_CROSS_ATTENDING,
        head="proj_out",
        inputs={"PixArtTransformer2DModel": _pixart},
    ),
    "Sana": Family(
        layers=(Layer("time_embed.linear", SIX), *_TABLES),
        branches={"attn": Branch("attn1"), "mlp": Branch("ff", channels_first=True)},
        head="proj_out",
        inputs={
            "SanaTransformer2DModel": lambda config, draw: {
                "hidden_states": draw.image(config),
                "encoder_hidden_states": draw.text(config.caption_channels),
                "timestep": draw.times(1000.0),
                "guidance": draw.times(1.0) if config.guidance_embeds else None,
            }
        },
    ),
}
FAMILIES: Registry[Family] = Registry("family", _ROWS, accepts=Family)
"""A mapping of tensors belongs to a family whose lines take all its modulation layers."""


def standard_inputs(model: nn.Module, seed: int = 0) -> dict[str, Any]:
    """A small batch as keyword arguments for one forward pass of `model`, on its device.

    Noise, times over the whole schedule, noise for text. Raises `ValueError` for a class that no family knows: then
    bring inputs of your own.
    """
    name, draw = type(model).__name__, InputDraw(seed)
    known = {cls: make for family in FAMILIES.values() for cls, make in family.inputs.items()}
    spec: Any = getattr(model, "spec", None)
    if isinstance(spec, DataSpec):
        labels = draw.labels(spec.num_classes) if model.num_labels else None
        inputs = {"x": draw.normal(spec.channels, spec.height, spec.width), "t": draw.times(1000.0), "y": labels}
    elif name in known:
        inputs = known[name](model.config, draw)
    else:
        raise ValueError(f"no standard inputs for {name}; known: DiT, UDiT of this package, {', '.join(known)}")
    like = next(model.parameters())
    return {key: _moved(value, like) for key, value in inputs.items()}


def _moved(value: Any, like: Tensor) -> Any:
    if isinstance(value, dict):
        return {key: _moved(item, like) for key, item in value.items()}
    if not isinstance(value, Tensor):
        return value
    return value.to(like.device, like.dtype if value.is_floating_point() else value.dtype)
