"""HunyuanVideo and its kin: Flux's blocks behind a refiner of the text, whose blocks have gates alone."""

from typing import Any

import torch

from adaln.conditioning.families.common import CONTEXT_SIX, FINAL_LAYER, SIX
from adaln.conditioning.families.flux import FLUX_LAYERS, TRIPLE, guidance
from adaln.conditioning.family import Family, Layer
from adaln.conditioning.inputs import InputDraw

_GATES = "context_attn: gate; context_mlp: gate"


def _text(config: Any, draw: InputDraw, suffix: str = "") -> dict[str, Any]:
    width = getattr(config, f"text_embed{suffix}_dim")
    if width is None:
        return {}
    mask = torch.ones(draw.batch_size, draw.text_tokens, dtype=torch.long)
    return {f"encoder_hidden_states{suffix}": draw.text(width), f"encoder_attention_mask{suffix}": mask}


def _video(config: Any, draw: InputDraw) -> dict[str, Any]:
    video = draw.video(config.in_channels, (config.patch_size_t, config.patch_size, config.patch_size))
    return {"hidden_states": video, "timestep": draw.times(1000.0), **_text(config, draw)}


def _hunyuan_video(config: Any, draw: InputDraw) -> dict[str, Any]:
    pooled = {"pooled_projections": draw.normal(config.pooled_projection_dim)}
    return {**_video(config, draw), **pooled, "guidance": guidance(config, draw, 6000.0)}


def _hunyuan_video_1_5(config: Any, draw: InputDraw) -> dict[str, Any]:
    return {
        **_video(config, draw),
        **_text(config, draw, "_2"),
        "image_embeds": draw.normal(3, config.image_embed_dim),
        "timestep_r": draw.times(500.0) if config.use_meanflow else None,
    }


def _framepack(config: Any, draw: InputDraw) -> dict[str, Any]:
    inputs = _hunyuan_video(config, draw)
    _, channels, frames, *size = inputs["hidden_states"].shape
    for name, num_frames in {"clean": 2, "history_2x": 2, "history_4x": 4}.items():
        inputs[f"latents_{name}"] = draw.normal(channels, num_frames, *size)
        inputs[f"indices_latents_{name}"] = torch.arange(num_frames)
    return {
        **inputs,
        "indices_latents": torch.arange(frames),
        "image_embeds": draw.normal(3, config.image_proj_dim),
    }


def _hunyuan_image(config: Any, draw: InputDraw) -> dict[str, Any]:
    shape = [patch * draw.tokens_per_side for patch in config.patch_size]
    return {
        "hidden_states": draw.normal(config.in_channels, *shape),
        "timestep": draw.times(1000.0),
        **_text(config, draw),
        **_text(config, draw, "_2"),
        "guidance": guidance(config, draw, 3500.0),
        "timestep_r": draw.times(500.0) if config.use_meanflow else None,
    }


def _official(linear: str) -> Family:
    return Family(
        (
            Layer("txt_in.individual_token_refiner.blocks.N.adaLN_modulation.*", _GATES),
            Layer(f"double_blocks.N.img_mod.{linear}", SIX),
            Layer(f"double_blocks.N.txt_mod.{linear}", CONTEXT_SIX),
            Layer(f"single_blocks.N.modulation.{linear}", f"attn_and_mlp: {TRIPLE}"),
            FINAL_LAYER,
        ),
        head="final_layer.linear",
        backbone="(img|txt|self)_attn(_qkv|_proj)? ((img|txt)_)?mlp linear1 linear2",
        start="zero",
        surprise="The last layer holds shift before scale, under diffusers' names scale before shift.",
    )


ROWS = {
    "HunyuanVideo": Family(
        (Layer("context_embedder.token_refiner.refiner_blocks.N.norm_out.linear", _GATES), *FLUX_LAYERS),
        head="proj_out",
        inputs={
            "HunyuanVideoTransformer3DModel": _hunyuan_video,
            "HunyuanVideo15Transformer3DModel": _hunyuan_video_1_5,
            "HunyuanVideoFramepackTransformer3DModel": _framepack,
            "HunyuanImageTransformer2DModel": _hunyuan_image,
        },
        surprise="The text's refiner has gates without shift and scale, and a time embedding of its own.",
    ),
    "HunyuanVideo (official)": _official("linear"),
    "HunyuanVideo (ComfyUI)": _official("lin"),
}
