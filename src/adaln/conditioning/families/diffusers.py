"""The families under the names of the diffusers library.

What looks alike is not: `norm_out.linear` holds scale before shift in SD3, Flux, AuraFlow and HunyuanDiT, and shift
before scale in CogVideoX.
"""

from typing import Any

import torch

from adaln.conditioning.families.official import SIX
from adaln.conditioning.family import Branch, Family, InputDraw, Layer

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


def _dit(config: Any, draw: InputDraw) -> dict[str, Any]:
    labels = draw.labels(config.num_embeds_ada_norm)
    return {"hidden_states": draw.image(config), "timestep": draw.times(1000.0).long(), "class_labels": labels}


_DIT = Family(
    layers=(Layer("transformer_blocks.N.norm1.linear", SIX), Layer("proj_out_1", "final: shift scale")),
    branches=_CROSS_ATTENDING,
    head="proj_out_2",
    inputs={"DiTTransformer2DModel": _dit},
)


def _sd3(config: Any, draw: InputDraw) -> dict[str, Any]:
    return {
        "hidden_states": draw.image(config),
        "encoder_hidden_states": draw.text(config.joint_attention_dim),
        "pooled_projections": draw.normal(config.pooled_projection_dim),
        "timestep": draw.times(1000.0),
    }


_SD3 = Family(
    layers=(
        Layer("transformer_blocks.N.norm1.linear", SIX),
        Layer("transformer_blocks.N.norm1.linear", f"{SIX}; attn2: shift scale gate"),
        Layer("transformer_blocks.N.norm1_context.linear", CONTEXT_SIX),
        Layer("transformer_blocks.N.norm1_context.linear", "context_attn: scale shift"),
        _NORM_OUT,
    ),
    branches={**_JOINT, "attn2": Branch("attn2")},
    head="proj_out",
    inputs={"SD3Transformer2DModel": _sd3},
)


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


_FLUX = Family(
    layers=(
        Layer("transformer_blocks.N.norm1.linear", SIX),
        Layer("transformer_blocks.N.norm1_context.linear", CONTEXT_SIX),
        Layer("single_transformer_blocks.N.norm.linear", "attn_and_mlp: shift scale gate"),
        _NORM_OUT,
    ),
    branches={**_JOINT, "attn_and_mlp": Branch("attn", "proj_out", residual="norm")},
    head="proj_out",
    inputs={"FluxTransformer2DModel": _flux},
)


def _auraflow(config: Any, draw: InputDraw) -> dict[str, Any]:
    text = draw.text(config.joint_attention_dim)
    return {"hidden_states": draw.image(config), "encoder_hidden_states": text, "timestep": draw.times(1.0)}


_AURAFLOW = Family(
    layers=(
        Layer("joint_transformer_blocks.N.norm1.linear", SIX),
        Layer("joint_transformer_blocks.N.norm1_context.linear", CONTEXT_SIX),
        Layer("single_transformer_blocks.N.norm1.linear", SIX),
        _NORM_OUT,
    ),
    branches=_JOINT,
    head="proj_out",
    inputs={"AuraFlowTransformer2DModel": _auraflow},
)


def _cogvideox(config: Any, draw: InputDraw) -> dict[str, Any]:
    frames = (config.sample_frames - 1) // config.temporal_compression_ratio + 1
    return {
        "hidden_states": draw.normal(frames, config.in_channels, config.sample_height, config.sample_width),
        "encoder_hidden_states": draw.normal(config.max_text_seq_length, config.text_embed_dim),
        "timestep": draw.times(1000.0),
    }


_COGVIDEOX = Family(
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
)


def _hunyuandit(config: Any, draw: InputDraw) -> dict[str, Any]:
    return {
        "hidden_states": draw.image(config),
        "timestep": draw.times(1000.0),
        "encoder_hidden_states": draw.normal(config.text_len, config.cross_attention_dim),
        "text_embedding_mask": torch.ones(draw.batch_size, config.text_len),
        "encoder_hidden_states_t5": draw.normal(config.text_len_t5, config.cross_attention_dim_t5),
        "text_embedding_mask_t5": torch.ones(draw.batch_size, config.text_len_t5),
        "image_meta_size": torch.tensor([[1024, 1024, 1024, 1024, 0, 0]] * draw.batch_size),
        "style": torch.zeros(draw.batch_size, dtype=torch.long),
    }


_HUNYUANDIT = Family(
    layers=(Layer("blocks.N.norm1.linear", "attn: shift"), _NORM_OUT),
    branches={"attn": Branch("attn1")},
    head="proj_out",
    inputs={"HunyuanDiT2DModel": _hunyuandit},
)


def _lumina2(config: Any, draw: InputDraw) -> dict[str, Any]:
    return {
        "hidden_states": draw.image(config),
        "timestep": draw.times(1.0),
        "encoder_hidden_states": draw.text(config.cap_feat_dim),
        "encoder_attention_mask": torch.ones(draw.batch_size, draw.text_tokens, dtype=torch.bool),
    }


_LUMINA2 = Family(
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
    inputs={"Lumina2Transformer2DModel": _lumina2},
)


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


_PIXART = Family(
    layers=(Layer("adaln_single.linear", SIX), *_TABLES),
    branches=_CROSS_ATTENDING,
    head="proj_out",
    inputs={"PixArtTransformer2DModel": _pixart},
)


def _sana(config: Any, draw: InputDraw) -> dict[str, Any]:
    return {
        "hidden_states": draw.image(config),
        "encoder_hidden_states": draw.text(config.caption_channels),
        "timestep": draw.times(1000.0),
        "guidance": draw.times(1.0) if config.guidance_embeds else None,
    }


_SANA = Family(
    layers=(Layer("time_embed.linear", SIX), *_TABLES),
    branches={"attn": Branch("attn1"), "mlp": Branch("ff", channels_first=True)},
    head="proj_out",
    inputs={"SanaTransformer2DModel": _sana},
)

DIFFUSERS = {
    "diffusers-DiT": _DIT,
    "SD3": _SD3,
    "Flux": _FLUX,
    "AuraFlow": _AURAFLOW,
    "CogVideoX": _COGVIDEOX,
    "HunyuanDiT": _HUNYUANDIT,
    "Lumina2": _LUMINA2,
    "PixArt": _PIXART,
    "Sana": _SANA,
}
