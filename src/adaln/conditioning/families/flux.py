"""Flux and its kin: blocks of two streams, then blocks of one."""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from adaln.conditioning.families.common import CONTEXT_SIX, FINAL_LAYER, NORM_OUT, SIX
from adaln.conditioning.family import BACKBONE, Family, Layer
from adaln.conditioning.inputs import InputDraw

BFL_BACKBONE = "(img|txt)_attn (img|txt)_mlp linear1 linear2"
TRIPLE = "shift scale gate"
FLUX_LAYERS = (
    Layer("transformer_blocks.N.norm1.linear", SIX),
    Layer("transformer_blocks.N.norm1_context.linear", CONTEXT_SIX),
    Layer("single_transformer_blocks.N.norm.linear", f"attn_and_mlp: {TRIPLE}"),
    NORM_OUT,
)
_SHARED = "Of no block is the modulation its own: a few matrices without biases serve all blocks."


def guidance(config: Any, draw: InputDraw, strength: float = 3.5) -> Tensor | None:
    """The strength of guidance, where the network takes it as an input."""
    return torch.full((draw.batch_size,), strength) if config.guidance_embeds else None


def _tokens(config: Any, draw: InputDraw, last_time: float = 1.0) -> dict[str, Any]:
    axes, ids = len(config.axes_dims_rope), draw.positions()
    return {
        "hidden_states": draw.normal(len(ids), config.in_channels),
        "encoder_hidden_states": draw.text(config.joint_attention_dim),
        "timestep": draw.times(last_time),
        "img_ids": pad(ids, (0, axes - 3)),
        "txt_ids": torch.zeros(draw.text_tokens, axes),
    }


def _flux(config: Any, draw: InputDraw) -> dict[str, Any]:
    pooled = {"pooled_projections": draw.normal(config.pooled_projection_dim)}
    return {**_tokens(config, draw), **pooled, "guidance": guidance(config, draw)}


def _flux_controlnet(config: Any, draw: InputDraw) -> dict[str, Any]:
    side = 8 * config.patch_size * draw.tokens_per_side
    shape = (3, side, side) if config.conditioning_embedding_channels else (draw.tokens_per_side**2, config.in_channels)
    return {
        **_flux(config, draw),
        "controlnet_cond": draw.normal(*shape),
        "controlnet_mode": draw.labels(config.num_mode)[:, None] if config.num_mode else None,
    }


def _bria_fibo(config: Any, draw: InputDraw) -> dict[str, Any]:
    num_blocks = config.num_layers + config.num_single_layers
    texts = draw.normal(num_blocks, draw.text_tokens, config.text_encoder_dim)
    return {**_tokens(config, draw, 1000.0), "text_encoder_layers": texts.transpose(0, 1)}


def _motif_video(config: Any, draw: InputDraw) -> dict[str, Any]:
    return {
        "hidden_states": draw.video(config.in_channels, (config.patch_size_t, config.patch_size, config.patch_size)),
        "timestep": draw.times(1000.0),
        "encoder_hidden_states": draw.text(config.text_embed_dim),
        "image_embeds": draw.normal(3, config.image_embed_dim) if config.image_embed_dim else None,
    }


def _flux_3(config: Any, draw: InputDraw) -> dict[str, Any]:
    inputs = _tokens(config, draw)
    ids = inputs["img_ids"] + torch.tensor([1, 0, 0, 0])
    return {
        **inputs,
        "image_cond_hidden_states": draw.normal(len(ids), config.cond_in_channels),
        "image_cond_ids": ids,
        "target_timestep": draw.times(0.5) if config.flow_map else None,
    }


def _flux_2_layers(linear: str, double: str, single: str) -> tuple[Layer, ...]:
    return (
        Layer(f"double_stream_modulation_img.{linear}", SIX, shared_by=double),
        Layer(f"double_stream_modulation_txt.{linear}", CONTEXT_SIX, shared_by=double),
        Layer(f"single_stream_modulation.{linear}", f"attn_and_mlp: {TRIPLE}", shared_by=single),
    )


def _flux_3_layers(linear: str, early: str, single: str) -> tuple[Layer, ...]:
    of_stream = {
        "txt": ("context_attn_and_mlp", "txt_mode_blocks"),
        "image": ("attn_and_mlp", f"{early}.image"),
        "image_cond": ("reference_attn_and_mlp", f"{early}.image_cond"),
    }
    return tuple(
        Layer(f"{stage}_stream_modulations.{stream}.{linear}", f"{branch}: {TRIPLE}", shared_by=single or blocks)
        for stage, single in (("early", ""), ("single", single))
        for stream, (branch, blocks) in of_stream.items()
    )


ROWS = {
    "Flux": Family(
        FLUX_LAYERS,
        head="proj_out",
        inputs={
            "FluxTransformer2DModel": _flux,
            "FluxControlNetModel": _flux_controlnet,
            "BriaTransformer2DModel": lambda config, draw: _tokens(config, draw, 1000.0),
            "BriaFiboTransformer2DModel": _bria_fibo,
            "LongCatImageTransformer2DModel": _tokens,
            "OvisImageTransformer2DModel": _tokens,
            "MotifVideoTransformer3DModel": _motif_video,
        },
        backbone=f"{BACKBONE} cross_attn",
        ungated_ends="cross_attn.to_out.0",
        surprise="In blocks of one stream a single gate opens attention and MLP together.",
    ),
    "Flux (BFL)": Family(
        (
            Layer("double_blocks.N.img_mod.lin", SIX),
            Layer("double_blocks.N.txt_mod.lin", CONTEXT_SIX),
            Layer("single_blocks.N.modulation.lin", f"attn_and_mlp: {TRIPLE}"),
            FINAL_LAYER,
        ),
        head="final_layer.linear",
        backbone=BFL_BACKBONE,
        surprise="The last layer holds shift before scale, under diffusers' names scale before shift.",
    ),
    "Flux.2": Family(
        (*_flux_2_layers("linear", "transformer_blocks", "single_transformer_blocks"), NORM_OUT),
        head="proj_out",
        inputs={
            "Flux2Transformer2DModel": lambda config, draw: {
                **_tokens(config, draw),
                "guidance": guidance(config, draw),
            }
        },
        surprise=_SHARED,
    ),
    "Flux.2 (BFL)": Family(
        (*_flux_2_layers("lin", "double_blocks", "single_blocks"), FINAL_LAYER),
        head="final_layer.linear",
        backbone=BFL_BACKBONE,
        surprise=_SHARED,
    ),
    "Flux.3": Family(
        (*_flux_3_layers("linear", "mode_blocks", "single_transformer_blocks"), NORM_OUT),
        head="proj_out",
        inputs={"Flux3Transformer2DModel": _flux_3},
        surprise=f"{_SHARED} Text and reference images are modulated by t = 0.",
    ),
    "Flux.3 (BFL)": Family(
        (
            *_flux_3_layers("lin", "content_mode_blocks", "single_blocks"),
            Layer("final_layer.image.adaLN_modulation.*", "final: shift scale"),
        ),
        head="final_layer.image.linear",
        backbone="q_proj k_proj v_proj attn_out mlp_in mlp_out",
        surprise=f"{_SHARED} Text and reference images are modulated by t = 0.",
    ),
    "Chroma": Family(
        head="proj_out final_layer.linear",
        inputs={"ChromaTransformer2DModel": _tokens},
        generated_by="distilled_guidance_layer",
        no_rows="time_text_embed.mod_proj",
        backbone=f"{BACKBONE} {BFL_BACKBONE}",
        surprise="One MLP of time and of a vector's number makes the shift, scale and gate of every block.",
    ),
}
