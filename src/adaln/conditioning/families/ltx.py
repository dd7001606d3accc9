"""LTX: one modulation for all blocks and a table in each; LTX-2: video and audio side by side, each hears the other."""

import re
from dataclasses import replace
from typing import Any

import torch

from adaln.conditioning.families.common import SIX, TABLE_START, tables
from adaln.conditioning.family import Family, Layer
from adaln.conditioning.inputs import InputDraw


def _grid(draw: InputDraw) -> dict[str, int]:
    return {"num_frames": draw.frames, "height": draw.tokens_per_side, "width": draw.tokens_per_side}


def _ltx(config: Any, draw: InputDraw) -> dict[str, Any]:
    return {
        "hidden_states": draw.normal(draw.frames * draw.tokens_per_side**2, config.in_channels),
        "encoder_hidden_states": draw.text(config.caption_channels),
        "encoder_attention_mask": torch.ones(draw.batch_size, draw.text_tokens),
        "timestep": draw.times(1000.0),
        **_grid(draw),
    }


def _ltx_2(config: Any, draw: InputDraw) -> dict[str, Any]:
    texts = [config.caption_channels] * 2
    if not config.use_prompt_embeddings:
        texts = [config.cross_attention_dim, config.audio_cross_attention_dim]
    return {
        "hidden_states": draw.normal(draw.frames * draw.tokens_per_side**2, config.in_channels),
        "audio_hidden_states": draw.normal(draw.audio_tokens, config.audio_in_channels),
        "encoder_hidden_states": draw.text(texts[0]),
        "audio_encoder_hidden_states": draw.text(texts[1]),
        "timestep": draw.times(1000.0),
        "sigma": draw.times(1000.0),
        "audio_num_frames": draw.audio_tokens,
        **_grid(draw),
    }


def _refiner(config: Any, draw: InputDraw) -> dict[str, Any]:
    tokens, heads, width = draw.frames * draw.tokens_per_side**2, config.num_attention_heads, config.attention_head_dim
    angles = (heads, tokens, width // 2) if config.rope_type == "split" else (tokens, heads * width)
    cos = torch.ones(draw.batch_size, *angles)
    return {
        "hidden_states": draw.normal(tokens, config.in_channels),
        "encoder_hidden_states": draw.text(config.caption_channels),
        "timestep": draw.times(1000.0)[:, None].expand(-1, tokens),
        "video_rotary_emb": (cos, torch.zeros_like(cos)),  # all tokens at one place
    }


def _two_streams(rows: str, *prompt: tuple[str, str, str]) -> tuple[Layer, ...]:
    """Of `rows` a block's own in each stream; of the prompt, where it is modulated, matrix, table and rows."""
    audio_rows, block = re.sub(r"(\w+):", r"audio_\1:", rows), "transformer_blocks.N"
    video_hears, audio_hears = "a2v: scale shift; v2a: scale shift", "audio_a2v: scale shift; audio_v2a: scale shift"
    return (
        Layer("time_embed.linear", rows),
        Layer("audio_time_embed.linear", audio_rows),
        Layer("av_cross_attn_video_scale_shift.linear", video_hears),
        Layer("av_cross_attn_audio_scale_shift.linear", audio_hears),
        Layer("av_cross_attn_video_a2v_gate.linear", "a2v: gate"),
        Layer("av_cross_attn_audio_v2a_gate.linear", "audio_v2a: gate"),
        *(Layer(f"{matrix}.linear", of_text) for matrix, _, of_text in prompt),
        Layer(f"{block}.scale_shift_table", rows, "table"),
        Layer(f"{block}.audio_scale_shift_table", audio_rows, "table"),
        *(Layer(f"{block}.{table}", of_text, "table") for _, table, of_text in prompt),
        Layer(f"{block}.video_a2v_cross_attn_scale_shift_table", f"{video_hears}; a2v: gate", "table"),
        Layer(f"{block}.audio_a2v_cross_attn_scale_shift_table", f"{audio_hears}; audio_v2a: gate", "table"),
        Layer("scale_shift_table", "final: shift scale", "table"),
        Layer("audio_scale_shift_table", "final: shift scale", "table"),
    )


_OFFICIAL = {
    "time_embed": "adaln_single",
    "audio_time_embed": "audio_adaln_single",
    "av_cross_attn_video_scale_shift": "av_ca_video_scale_shift_adaln_single",
    "av_cross_attn_audio_scale_shift": "av_ca_audio_scale_shift_adaln_single",
    "av_cross_attn_video_a2v_gate": "av_ca_a2v_gate_adaln_single",
    "av_cross_attn_audio_v2a_gate": "av_ca_v2a_gate_adaln_single",
    "prompt_adaln": "prompt_adaln_single",
    "audio_prompt_adaln": "audio_prompt_adaln_single",
    "video_a2v_cross_attn_scale_shift_table": "scale_shift_table_a2v_ca_video",
    "audio_a2v_cross_attn_scale_shift_table": "scale_shift_table_a2v_ca_audio",
}
"""What its own code calls what diffusers renames."""


def _official(family: Family, **changes: Any) -> Family:
    """The same network as its own code names it."""
    layers = tuple(
        replace(layer, name=".".join(_OFFICIAL.get(part, part) for part in layer.name.split(".")))
        for layer in family.layers
    )
    start = family.start.replace("as torch starts it", "normal, of a std that its config names")
    return replace(family, layers=layers, inputs={}, start=start, **changes)


_LTX = Family(
    layers=tables("time_embed.linear", "transformer_blocks.N.scale_shift_table", "scale_shift_table"),
    head="proj_out",
    inputs={"LTXVideoTransformer3DModel": _ltx},
    signs=r"^proj_in\.",
    branch_ends="attn1.to_out.0 attn2.to_out.0 ff.net.2",
    ungated_ends="attn2.to_out.0",
    start=TABLE_START,
    surprise="Every token may have a time of its own; cross-attention has no norm and no gate.",
)
_LTX_2 = replace(
    _LTX,
    layers=_two_streams(SIX),
    head="proj_out audio_proj_out",
    inputs={"LTX2VideoTransformer3DModel": _ltx_2},
    signs="audio_(time_embed|adaln_single)",
    backbone="attn1 attn2 ff audio_attn1 audio_attn2 audio_ff audio_to_video_attn video_to_audio_attn",
    branch_ends="attn1.to_out.0 attn2.to_out.0 ff.net.2 audio_attn1.to_out.0 audio_attn2.to_out.0 audio_ff.net.2"
    " audio_to_video_attn.to_out.0 video_to_audio_attn.to_out.0",
    ungated_ends="attn2.to_out.0 audio_attn2.to_out.0",
    start=f"{TABLE_START}; tables between the streams N(0, 1)",
    surprise="Where the streams hear each other both sides are modulated; one table adds to two shared matrices.",
)
_LTX_2_3 = replace(
    _LTX_2,
    layers=_two_streams(
        f"{SIX}; cross_attn: shift scale gate",
        ("prompt_adaln", "prompt_scale_shift_table", "prompt: shift scale"),
        ("audio_prompt_adaln", "audio_prompt_scale_shift_table", "audio_prompt: shift scale"),
    ),
    ungated_ends="",
    start=f"{TABLE_START}; tables between the streams and of the prompt N(0, 1)",
    surprise="As LTX-2, and the text is modulated too: what cross-attention reads of it, without a norm before.",
)

ROWS = {
    "LTX": _LTX,
    "LTX (official)": _official(_LTX, signs="patchify_proj"),
    "LTX-2": _LTX_2,
    "LTX-2 (official)": _official(_LTX_2),
    "LTX-2.3": _LTX_2_3,
    "LTX-2.3 (official)": _official(_LTX_2_3),
    "Sana WM refiner": replace(
        _LTX_2,
        layers=_LTX.layers,
        head="proj_out",
        inputs={"SanaWMLTX2RefinerTransformer3DModel": _refiner},
        no_rows=r"audio_\w* av_cross_attn_\w* transformer_blocks.N.(audio|video)_\w*",
        ungated_ends="attn2.to_out.0",
        surprise="It carries the whole audio half of LTX-2, by the same names, and runs none of it.",
    ),
}
