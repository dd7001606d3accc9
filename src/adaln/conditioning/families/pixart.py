"""PixArt and its kin: one modulation that all blocks share, and in each block a table of its own that is added."""

from dataclasses import replace
from typing import Any

import torch

from adaln.conditioning.families.common import TABLE_START, tables
from adaln.conditioning.family import Family
from adaln.conditioning.inputs import InputDraw


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


def _allegro(config: Any, draw: InputDraw) -> dict[str, Any]:
    return {
        "hidden_states": draw.video(config.in_channels, (config.patch_size_t, config.patch_size, config.patch_size)),
        "encoder_hidden_states": draw.normal(1, draw.text_tokens, config.caption_channels),
        "timestep": draw.times(1000.0),
    }


def _latte(config: Any, draw: InputDraw) -> dict[str, Any]:
    return {
        "hidden_states": draw.normal(config.in_channels, config.video_length, config.sample_size, config.sample_size),
        "encoder_hidden_states": draw.text(config.caption_channels),
        "timestep": draw.times(1000.0),
    }


def _sana(config: Any, draw: InputDraw) -> dict[str, Any]:
    video = not isinstance(config.patch_size, int)
    return {
        "hidden_states": draw.video(config.in_channels, config.patch_size) if video else draw.image(config),
        "encoder_hidden_states": draw.text(config.caption_channels),
        "timestep": draw.times(1000.0),
        "guidance": draw.times(1.0) if config.guidance_embeds else None,
    }


def _sana_controlnet(config: Any, draw: InputDraw) -> dict[str, Any]:
    return {
        "hidden_states": draw.image(config),
        "encoder_hidden_states": draw.text(config.caption_channels),
        "timestep": draw.times(1000.0),
        "controlnet_cond": draw.image(config),
    }


def _sana_wm(config: Any, draw: InputDraw) -> dict[str, Any]:
    return {
        "hidden_states": draw.video(config.in_channels, config.patch_size),
        "encoder_hidden_states": draw.normal(1, draw.text_tokens, config.caption_channels),
        "encoder_attention_mask": torch.ones(draw.batch_size, draw.text_tokens),
        "timestep": draw.times(1000.0)[:, None, None].expand(-1, 1, draw.frames),
    }


_PIXART = Family(
    layers=tables("adaln_single.linear", "transformer_blocks.N.scale_shift_table", "scale_shift_table"),
    head="proj_out",
    inputs={
        "PixArtTransformer2DModel": _pixart,
        "AllegroTransformer3DModel": _allegro,
    },
    branch_ends="attn1.to_out.0 attn2.to_out.0 ff.net.2",
    ungated_ends="attn2.to_out.0",
    start=TABLE_START,
    surprise="Cross-attention has no norm and no gate: with all gates at zero no block is the identity.",
)
_SANA = replace(
    _PIXART,
    layers=tables("time_embed.linear", "transformer_blocks.N.scale_shift_table", "scale_shift_table"),
    inputs={
        "SanaTransformer2DModel": _sana,
        "SanaVideoTransformer3DModel": _sana,
        "SanaControlNetModel": _sana_controlnet,
    },
    branch_ends="attn1.to_out.0 attn2.to_out.0 ff.conv_point",
)

ROWS = {
    "PixArt": replace(_PIXART, classes="Transformer2DModel"),
    "Latte": replace(
        _PIXART,
        layers=tables(
            "adaln_single.linear",
            "(transformer_blocks|temporal_transformer_blocks).N.scale_shift_table",
            "scale_shift_table",
        ),
        inputs={"LatteTransformer3DModel": _latte},
        interleaved=True,
        surprise="Blocks of space and of time take turns; only those of space attend to the text, without a gate.",
    ),
    "Sana": _SANA,
    "PixArt (official)": replace(
        _PIXART,
        layers=tables("t_block.*", "blocks.N.scale_shift_table", "final_layer.scale_shift_table"),
        head="final_layer.linear",
        inputs={"SanaWMTransformer3DModel": _sana_wm},
        no_rows="blocks.N.attn.(beta_proj|recall_gate)",
        backbone="attn cross_attn mlp",
        branch_ends="attn.proj cross_attn.proj mlp.fc2 mlp.point_conv.conv",
        ungated_ends="cross_attn.proj",
        start="tables N(0, 1/D); PixArt: the shared matrix N(0, 0.02^2), head and ends of cross-attention zero; Sana WM"
        " in diffusers: as torch",
        surprise="Sana's names too, and those of Sana WM, where every frame has a time of its own.",
    ),
    "ACE-Step 1 (official)": replace(
        _PIXART,
        layers=tables("t_block.*", "transformer_blocks.N.scale_shift_table", "final_layer.scale_shift_table"),
        head="final_layer.linear",
        inputs={},
        backbone="attn cross_attn ff",
        branch_ends="attn.to_out.0 cross_attn.to_out.0 ff.point_conv.conv",
        ungated_ends="cross_attn.to_out.0",
    ),
}
