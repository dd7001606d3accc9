"""Wan and its kin of the same build: one modulation that all blocks share, tables of shape (1, chunks, D) or flat."""

from dataclasses import replace
from typing import Any

import torch

from adaln.conditioning.families.common import CONTEXT_SIX, SIX, TABLE_START, tables
from adaln.conditioning.family import Family, Layer
from adaln.conditioning.inputs import InputDraw


def _video(config: Any, draw: InputDraw) -> dict[str, Any]:
    return {
        "hidden_states": draw.video(config.in_channels, config.patch_size),
        "timestep": draw.times(1000.0),
        "encoder_hidden_states": draw.text(config.text_dim),
    }


def _wan(config: Any, draw: InputDraw) -> dict[str, Any]:
    image = draw.text(config.image_dim) if config.image_dim else None
    return {**_video(config, draw), "encoder_hidden_states_image": image}


def _vace(config: Any, draw: InputDraw) -> dict[str, Any]:
    return {**_wan(config, draw), "control_hidden_states": draw.video(config.vace_in_channels, config.patch_size)}


def _animate(config: Any, draw: InputDraw) -> dict[str, Any]:
    size = config.motion_encoder_size
    return {
        **_wan(config, draw),
        "pose_hidden_states": draw.video(config.latent_channels, config.patch_size)[:, :, 1:],
        "face_pixel_values": draw.normal(3, 4 * (draw.frames - 1), size, size),
    }


class _NoCache:
    """Keys and values of a reference pass, which nothing reads later."""

    def get(self, block: int) -> "_NoCache":
        return self

    def store(self, key: object, value: object) -> None:
        pass


def _animate_2(config: Any, draw: InputDraw) -> dict[str, Any]:
    video, side = draw.video(config.in_dim, config.patch_size), draw.tokens_per_side
    return {
        "hidden_states": list(video[:, : config.out_dim]),
        "condition_latents": list(video[:, config.out_dim :]),
        "timestep": draw.times(1000.0),
        "encoder_hidden_states": list(draw.text(config.text_dim)),
        "encoder_hidden_states_image": draw.normal(draw.text_tokens, 1280) if config.use_img_emb else None,
        "kv_cache": _NoCache(),
        "kv_cache_mode": "extract",  # the other pass needs a compiler
        "seq_len": draw.frames * side**2,
        "offset_grid_sizes": torch.tensor([[draw.frames, side, side]] * draw.batch_size),
    }


def _skyreels(config: Any, draw: InputDraw) -> dict[str, Any]:
    return {**_wan(config, draw), "fps": [1] * draw.batch_size if config.inject_sample_info else None}


def _anyflow(config: Any, draw: InputDraw) -> dict[str, Any]:
    times = draw.times(1000.0)[:, None].expand(-1, draw.frames)
    return {
        "hidden_states": draw.video(config.in_channels, config.patch_size).transpose(1, 2),
        "timestep": times,
        "r_timestep": times / 2,
        "encoder_hidden_states": draw.text(config.text_dim),
    }


def _anyflow_far(config: Any, draw: InputDraw) -> dict[str, Any]:
    return {**_anyflow(config, draw), "chunk_partition": [1] * draw.frames}


def _joy_plus(config: Any, draw: InputDraw) -> dict[str, Any]:
    side, frames = draw.tokens_per_side, draw.frames
    return {
        "hidden_states": draw.normal(frames * side**2, config.in_channels, *config.patch_size),
        "timestep": draw.times(1000.0),
        "encoder_hidden_states": draw.text(config.text_dim),
        "shape_list": [[(frames, side, side)]] * draw.batch_size,
    }


def _krea(config: Any, draw: InputDraw) -> dict[str, Any]:
    tokens = draw.tokens_per_side**2
    return {
        "hidden_states": draw.normal(tokens, config.in_channels),
        "encoder_hidden_states": draw.normal(draw.text_tokens, config.num_text_layers, config.text_hidden_dim),
        "timestep": draw.times(1.0),
        "position_ids": torch.cat([torch.zeros(draw.text_tokens, 3, dtype=torch.long), draw.positions()]),
    }


_WAN = Family(
    layers=tables("condition_embedder.time_proj", "(vace_blocks|blocks).N.scale_shift_table", "scale_shift_table"),
    head="proj_out",
    inputs={
        "WanTransformer3DModel": _wan,
        "WanVACETransformer3DModel": _vace,
        "WanAnimateTransformer3DModel": _animate,
        "ChronoEditTransformer3DModel": _wan,
        "AnyFlowTransformer3DModel": _anyflow,
        "AnyFlowFARTransformer3DModel": _anyflow_far,
    },
    backbone="attn1 attn2 ffn",
    branch_ends="attn1.to_out.0 attn2.to_out.0 ffn.net.2",
    ungated_ends="attn2.to_out.0 proj_out",
    start=TABLE_START,
    surprise="The norm before the ungated cross-attention is affine, those under the modulation are not.",
)
_FRAME_RATE = (
    "A second shared matrix adds what it makes of the frame rate to all six: the first at zero closes nothing."
)
_WAN_OFFICIAL = replace(
    _WAN,
    layers=tables("time_projection.*", "(vace_blocks|blocks).N.modulation", "head.modulation"),
    head="head.head",
    inputs={"WanAnimate2Transformer3DModel": _animate_2},
    backbone="self_attn cross_attn ffn",
    branch_ends="self_attn.o self_attn.to_out.0 cross_attn.o cross_attn.to_out.0 ffn.2",
    ungated_ends="cross_attn.o cross_attn.to_out.0 after_proj",
    start="tables N(0, 1/D), the shared matrix Xavier-uniform, the head zero; WanAnimate2 in diffusers: as torch",
)
_SCALE_FIRST = "attn: scale shift gate; mlp: scale shift gate"
_KREA = Family(
    layers=tables(
        "time_mod_proj",
        "transformer_blocks.N.scale_shift_table",
        "final_layer.scale_shift_table",
        _SCALE_FIRST,
        "final: scale shift",
    ),
    head="final_layer.linear",
    inputs={"Krea2Transformer2DModel": _krea},
    branch_ends="attn.to_out.0 ff.down",
    start="tables zero, the shared matrix as torch starts it: all blocks begin alike, with open gates",
    surprise="The scale comes first; norms store their weight less one; attention has a sigmoid gate of its own.",
)

ROWS = {
    "Wan": _WAN,
    "Wan (official)": _WAN_OFFICIAL,
    "Wan Animate 2 (official)": replace(
        _WAN_OFFICIAL, layers=tables("time_projection.*", "blocks.N.block.modulation", "head.modulation"), inputs={}
    ),
    "SkyReels-V2": replace(
        _WAN,
        layers=(Layer("fps_projection.net.2", SIX), *_WAN.layers),
        inputs={"SkyReelsV2Transformer3DModel": _skyreels},
        no_rows="fps_projection.net.0",
        surprise=_FRAME_RATE,
    ),
    "SkyReels-V2 (official)": replace(
        _WAN_OFFICIAL, layers=(Layer("fps_projection.*", SIX), *_WAN_OFFICIAL.layers), inputs={}, surprise=_FRAME_RATE
    ),
    "Helios": replace(
        _WAN,
        layers=tables("condition_embedder.time_proj", "blocks.N.scale_shift_table", "norm_out.scale_shift_table"),
        inputs={"HeliosTransformer3DModel": _video},
        surprise="Frames of the past are modulated by t = 0.",
    ),
    "JoyImage": Family(
        layers=(
            Layer(
                "condition_embedder.time_proj",
                "attn+context_attn: shift scale gate; mlp+context_mlp: shift scale gate",
            ),
            Layer("double_blocks.N.img_mod.modulate_table", SIX, "table"),
            Layer("double_blocks.N.txt_mod.modulate_table", CONTEXT_SIX, "table"),
        ),
        head="proj_out",
        inputs={"JoyImageEditTransformer3DModel": _video, "JoyImageEditPlusTransformer3DModel": _joy_plus},
        backbone="attn img_mlp txt_mlp",
        branch_ends="attn.img_attn_proj attn.txt_attn_proj img_mlp.net.2 txt_mlp.net.2",
        start="diffusers: tables zero, all blocks begin alike with open gates; its own code: tables N(0, 1/D)",
        surprise="One shared six for image and text, a table for each; the last norm is not modulated.",
    ),
    "Krea 2": _KREA,
    "Krea 2 (official)": replace(
        _KREA,
        layers=tables("tproj.*", "blocks.N.mod.lin", "last.modulation.lin", _SCALE_FIRST, "final: scale shift"),
        head="last.linear",
        inputs={},
        backbone="attn mlp",
        branch_ends="attn.wo mlp.down",
    ),
}
