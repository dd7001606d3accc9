"""Networks of sound: ACE-Step, LongCat Audio and Stable Audio 3, and those that have no modulation."""

from dataclasses import replace
from typing import Any

import torch

from adaln.conditioning.families.common import NORM_OUT, SIX, TABLE_START, tables
from adaln.conditioning.family import Family, Layer
from adaln.conditioning.inputs import InputDraw


def _ace_step(config: Any, draw: InputDraw) -> dict[str, Any]:
    tokens, acoustic = draw.audio_tokens * config.patch_size, config.audio_acoustic_hidden_dim
    return {
        "hidden_states": draw.normal(tokens, acoustic),
        "context_latents": draw.normal(tokens, config.in_channels - acoustic),
        "encoder_hidden_states": draw.text(config.encoder_hidden_size or config.hidden_size),
        "timestep": draw.times(1.0),
        "timestep_r": draw.times(1.0) / 2,
    }


def _longcat(config: Any, draw: InputDraw) -> dict[str, Any]:
    return {
        "hidden_states": draw.normal(draw.audio_tokens, config.latent_dim),
        "encoder_hidden_states": draw.text(config.dit_text_dim),
        "encoder_attention_mask": torch.ones(draw.batch_size, draw.text_tokens, dtype=torch.bool),
        "timestep": draw.times(1.0),
    }


def _stable_3(config: Any, draw: InputDraw) -> dict[str, Any]:
    return {
        "hidden_states": draw.normal(config.io_channels, draw.audio_tokens * config.patch_size),
        "encoder_hidden_states": draw.text(config.cond_token_dim),
        "global_hidden_states": draw.normal(config.global_cond_dim),
        "timestep": draw.times(1.0),
    }


def _stable(config: Any, draw: InputDraw) -> dict[str, Any]:
    return {
        "hidden_states": draw.normal(config.in_channels, draw.audio_tokens),
        "encoder_hidden_states": draw.text(config.cross_attention_input_dim),
        "global_hidden_states": draw.normal(1, config.global_states_input_dim),
        "timestep": draw.times(1.0),
    }


def _minimax(config: Any, draw: InputDraw) -> dict[str, Any]:
    return {
        "hidden_states": draw.normal(config.in_channels, draw.audio_tokens),
        "encoder_hidden_states": draw.normal(draw.audio_tokens, config.condition_dim),
        "timestep": draw.times(1.0),
    }


_GATE_FIRST = "attn: gate scale shift; mlp: gate scale shift"
_FALLING_GATES = "attn: scale shift gate(sigmoid_of_one_minus); mlp: scale shift gate(sigmoid_of_one_minus)"
_STABLE_3 = Family(
    layers=(
        Layer("global_cond_embedder.*", _FALLING_GATES),
        Layer("transformer_blocks.N.to_scale_shift_gate", _FALLING_GATES, "table"),
    ),
    head="proj_out",
    inputs={"StableAudio3DiTModel": _stable_3},
    backbone="self_attn cross_attn ff",
    branch_ends="self_attn.to_out cross_attn.to_out ff.proj_out",
    ungated_ends="cross_attn.to_out",
    start=TABLE_START,
    frequencies="cos, sin; 0.5 to 10000, evenly spaced in their logarithm",
    surprise="The gate is sigmoid(1 - value): more is less, and zero means 0.73, never closed.",
)

ROWS = {
    "ACE-Step": Family(
        layers=(
            Layer("time_embed_r.time_proj", SIX),
            *tables("time_embed.time_proj", "layers.N.scale_shift_table", "scale_shift_table"),
        ),
        head="proj_out_conv proj_out.1",
        inputs={"AceStepTransformer1DModel": _ace_step},
        backbone="self_attn cross_attn mlp",
        branch_ends="self_attn.to_out.0 self_attn.o_proj cross_attn.to_out.0 cross_attn.o_proj mlp.down_proj",
        ungated_ends="cross_attn.to_out.0 cross_attn.o_proj",
        start=TABLE_START,
        surprise="Two shared matrices, of t and of t - r, add to the same tables.",
    ),
    "LongCat Audio": Family(
        layers=(
            Layer("adaln_global_mlp.mlp.*", _GATE_FIRST),
            Layer("blocks.N.adaln_scale_shift", _GATE_FIRST, "table"),
            Layer("blocks.N.adaln_mlp.mlp.*", _GATE_FIRST),
            NORM_OUT,
        ),
        head="proj_out",
        inputs={"LongCatAudioDiTTransformer": _longcat},
        backbone="self_attn cross_attn ffn",
        branch_ends="self_attn.to_out.0 cross_attn.to_out.0 ffn.ff.3",
        ungated_ends="cross_attn.to_out.0",
        start="all matrices zero; with tables, N(0, 1/D), gates begin open, alike for all times",
        frequencies="sin, cos; 10000^(-i/(half - 1))",
        surprise="The gate comes first, and a block's table is flat.",
    ),
    "Stable Audio 3": _STABLE_3,
    "Stable Audio 3 (official)": replace(
        _STABLE_3,
        layers=(
            Layer("transformer.global_cond_embedder.*", _FALLING_GATES),
            Layer("transformer.layers.N.to_scale_shift_gate", _FALLING_GATES, "table"),
        ),
        head="transformer.project_out",
        inputs={},
        branch_ends="self_attn.to_out cross_attn.to_out ff.ff.2",
    ),
    "Stable Audio": Family(
        inputs={"StableAudioDiTModel": _stable},
        signs=r"global_proj\.0\.weight",
        no_rows="timestep_proj",
        frequencies="cos, sin; learned",
        surprise="The time and the seconds of sound are a token before the others.",
    ),
    "MiniMax Music 3": Family(
        inputs={
            "MiniMaxMusic3Transformer1DModel": _minimax,
            "MiniMaxMusic3RVQDepthDecoder": lambda config, draw: {
                "inputs_embeds": draw.normal(config.num_codebooks, config.hidden_size)
            },
        },
        backbone="attn ff_in ff_out gate_proj up_proj down_proj",
        frequencies="sin, cos; learned",
        surprise="The time is a token before the others; its decoder of codes has none.",
    ),
}
