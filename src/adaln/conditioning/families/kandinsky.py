"""Kandinsky, and networks that keep to no lineage: of three modalities, with a last layer alone, of proteins."""

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import Any

import torch

from adaln.conditioning.families.common import CONTEXT_SIX, SIX
from adaln.conditioning.family import Family, Layer
from adaln.conditioning.inputs import InputDraw

_NINE = "attn: shift scale gate; cross: shift scale gate; mlp: shift scale gate"
_AUDIO_NINE = "audio_attn: shift scale gate; audio_cross: shift scale gate; audio_mlp: shift scale gate"
_THREE_SIX = f"{SIX}; {CONTEXT_SIX}; audio_attn: shift scale gate; audio_mlp: shift scale gate"


def _out_layers(*names: str) -> Sequence[Layer]:
    return [Layer(f"{name}.modulation.out_layer", "final: shift scale", width_of=f"{name}.out_layer") for name in names]


def _text_blocks(stages: str, attention: str) -> Layer:
    return Layer(f"{stages}.N.text_modulation.out_layer", SIX, width_of=f".{attention}.to_query")


def _between_modalities() -> Sequence[Layer]:
    """The layer that modulates one modality before it asks the other holds the gate of the reverse, or its own.

    The first is so in all published weights; where both modalities are equally wide, shapes do not tell them apart.
    """
    video, audio = ".va_cross_attention.to_query", ".av_cross_attention.to_query"
    va, av = (
        "visual_transformer_blocks.N.va_modulation.out_layer",
        "visual_transformer_blocks.N.av_modulation.out_layer",
    )
    return [
        Layer(va, "va: shift scale; av: gate", width_of=(video, audio)),
        Layer(av, "av: shift scale; va: gate", width_of=(audio, video)),
        Layer(va, "va: shift scale gate", width_of=video),
        Layer(av, "av: shift scale gate", width_of=audio),
    ]


def _video(config: Any, draw: InputDraw) -> torch.Tensor:
    """Latents, channels last; with a clean copy of them and a mask where the network is conditioned on frames."""
    channels = 2 * config.in_visual_dim + 1 if config.visual_cond else config.in_visual_dim
    return draw.video(channels, config.patch_size).movedim(1, -1)


def _kandinsky_6(config: Any, draw: InputDraw) -> dict[str, Any]:
    return {
        "hidden_states": _video(config, draw),
        "encoder_hidden_states": draw.text(config.in_text_dim),
        "pooled_projections": draw.normal(config.in_text_dim2),
        "timestep": draw.times(1000.0),
        "audio_hidden_states": draw.normal(draw.audio_tokens, config.in_audio_dim),
    }


def _kandinsky_5(config: Any, draw: InputDraw) -> dict[str, Any]:
    sizes = draw.frames, draw.tokens_per_side, draw.tokens_per_side
    return {
        "hidden_states": _video(config, draw),
        "encoder_hidden_states": draw.text(config.in_text_dim),
        "pooled_projections": draw.normal(config.in_text_dim2),
        "timestep": draw.times(1000.0),
        "visual_rope_pos": tuple(torch.arange(size) for size in sizes),
        "text_rope_pos": torch.arange(draw.text_tokens),
    }


def _kandinsky_6_sr(config: Any, draw: InputDraw) -> dict[str, Any]:
    """Its sparse attention takes squares of 8 x 8 tokens."""
    deep, high, wide = config.patch_size
    video = draw.normal(deep, 8 * high, 8 * wide, 2 * config.in_visual_dim + 1)
    return {"hidden_states": video, "timestep": draw.times(1000.0)}


def _minimax_h3(config: Any, draw: InputDraw) -> dict[str, Any]:
    """One packed sequence for the whole batch, of text, video and sound; its tokens have times of their own."""
    num_tokens = [draw.frames * draw.tokens_per_side**2, draw.text_tokens, draw.audio_tokens]
    tags = torch.arange(3).repeat_interleave(torch.tensor(num_tokens))
    places = torch.arange(len(tags))
    return {
        "hidden_states": draw.normal(num_tokens[0], config.in_channels * prod(config.patch_size)),
        "audio_hidden_states": draw.normal(draw.audio_tokens, config.audio_in_channels),
        "encoder_hidden_states": draw.text(config.text_dim),
        "timestep": draw.times(1.0),
        "timestep_indices": places % draw.batch_size,
        "token_tags": tags,
        "position_ids": places[:, None].expand(-1, 3),
        "video_indices": places[tags == 0],
        "text_indices": places[tags == 1],
        "audio_indices": places[tags == 2],
    }


def _omnigen(config: Any, draw: InputDraw) -> dict[str, Any]:
    length = draw.text_tokens + 1 + draw.tokens_per_side**2
    return {
        "hidden_states": draw.image(config),
        "timestep": draw.times(1.0),
        "input_ids": draw.labels(config.vocab_size, draw.text_tokens),
        "input_img_latents": [],
        "input_image_sizes": {},
        "attention_mask": torch.ones(draw.batch_size, length, length),
        "position_ids": torch.arange(length).expand(draw.batch_size, -1),
    }


def _proteina(config: Any, draw: InputDraw) -> dict[str, Any]:
    residues = 6
    there = torch.ones(draw.batch_size, residues, dtype=torch.bool)
    return {
        "bb_ca": draw.normal(residues, 3),
        "local_latents": draw.normal(residues, config.latent_dim),
        "bb_ca_time": draw.times(1.0),
        "local_latents_time": draw.times(1.0),
        "padding_mask": there,
        "token_type": torch.zeros(there.shape, dtype=torch.long),
        "atom37_mask": there[..., None].expand(-1, -1, 37),
        "conditioning": {"is_in_context_conditioning": ~there, "supports_local_latent": there},
    }


def _alphafold_norm(name: str, branch: str) -> Sequence[Layer]:
    """A matrix for each role."""
    return [
        Layer(f"{name}.adaln.to_gamma.0", f"{branch}: scale(sigmoid)", width_of="rows"),
        Layer(f"{name}.adaln.to_beta", f"{branch}: shift", width_of="rows"),
        Layer(f"{name}.scale_output.0", f"{branch}: gate(sigmoid)", width_of="rows"),
    ]


_KANDINSKY = Family(
    head="out_layer.out_layer",
    backbone=r"(\w+_dec_block.)?\w*attention (\w+_dec_block.)?feed_forward attn",
    branch_ends=r"(\w+_dec_block.)?\w*att(entio)?n.out_layer (\w+_dec_block.)?feed_forward.(out_layer|net.2)",
    frequencies="cos, sin, D wide",
)
"""What all versions share besides their layers."""
_MINIMAX_H3 = Family(
    layers=(
        Layer("transformer_blocks.N.adaln_proj.linear", _THREE_SIX, width_of=".attn.to_q"),
        Layer("norm_out.linear", "final: shift scale", width_of="proj_out"),
    ),
    head="proj_out audio_proj_out",
    inputs={"MiniMaxH3Transformer3DModel": _minimax_h3},
    branch_ends="attn.to_out.0 ff.net.2",
    surprise="One layer holds shift, scale and gate of video, text and audio, 18 chunks; every token has its own time;"
    " affine norms under the modulation.",
)

ROWS = {
    "Kandinsky 5": replace(
        _KANDINSKY,
        layers=(
            _text_blocks("text_transformer_blocks", "self_attention"),
            Layer(
                "visual_transformer_blocks.N.visual_modulation.out_layer",
                _NINE,
                width_of=".self_attention.to_query",
            ),
            *_out_layers("out_layer"),
        ),
        inputs={"Kandinsky5Transformer3DModel": _kandinsky_5},
        start="zero, weight and bias",
        surprise="Cross-attention has a shift, a scale and a gate of its own; text is modulated too, before the video.",
    ),
    "Kandinsky 6": replace(
        _KANDINSKY,
        layers=(
            _text_blocks("(video_text|audio_text)_transformer_blocks", "attn"),
            *(
                Layer(
                    f"visual_transformer_blocks.N.{modality}_dec_block.visual_modulation.out_layer",
                    rows,
                    width_of=f".{modality}_dec_block.self_attention.to_query",
                )
                for modality, rows in (("video", _NINE), ("audio", _AUDIO_NINE))
            ),
            *_between_modalities(),
            *_out_layers("out_layer", "audio_out_layer"),
        ),
        head="out_layer.out_layer audio_out_layer.out_layer",
        inputs={"Kandinsky6Transformer3DModel": _kandinsky_6},
        surprise="The layer that scales and shifts the video before it asks the audio holds the gate of what the audio"
        " hears of the video, as wide as the audio, and the reverse; the zero start of Kandinsky 5 is gone.",
    ),
    "Kandinsky 6 SR": replace(
        _KANDINSKY,
        layers=(
            Layer(
                "visual_transformer_blocks.N.visual_modulation.out_layer",
                SIX,
                width_of=".self_attention.to_query",
            ),
            *_out_layers("out_layer"),
        ),
        inputs={"Kandinsky6SRTransformer3DModel": _kandinsky_6_sr},
        surprise="No text: what the empty caption gave is a constant added to the condition.",
    ),
    "MiniMax-H3": _MINIMAX_H3,
    "MiniMax-H3 (official)": replace(
        _MINIMAX_H3,
        layers=(
            Layer("blocks.N.adaln_proj.linear", _THREE_SIX, width_of=".attn.qkv_proj"),
            Layer("final_layer.adaln_proj.linear", "final: shift scale", width_of="final_layer.video_out"),
        ),
        head="final_layer.video_out final_layer.audio_out",
        inputs={},
        backbone="attn mlp",
        branch_ends="attn.out_proj mlp.fc2",
    ),
    "OmniGen": Family(
        layers=(Layer("norm_out.linear", "final: shift scale"),),
        head="proj_out",
        signs="^time_token",
        inputs={"OmniGenTransformer2DModel": _omnigen},
        backbone="self_attn mlp",
        branch_ends="self_attn.to_out.0 mlp.down_proj",
        ungated_ends="self_attn.to_out.0 mlp.down_proj",
        surprise="Only the last layer is modulated; time is a token as well, by an embedder of its own.",
    ),
    "RFD4-Proteina": Family(
        layers=(
            *_alphafold_norm("pair_repr_builder", "pair")[:2],
            *_alphafold_norm("transformer_layers.N.mhba", "attn"),
            *_alphafold_norm("transformer_layers.N.transition", "mlp"),
        ),
        head="ca_linear.1 local_latents_linear.1",
        no_rows="pair_update_layers.N.linear_x",
        inputs={"RFD4ProteinaTransformer": _proteina},
        backbone="mhba.mha transition.transition",
        branch_ends="mhba.mha.to_out transition.transition.linear_out",
        frequencies="sin, cos, 2000^(-i/(half - 1))",
        surprise="AlphaFold 3's kind: scale and gate are sigmoids, half open at zero; scale and shift see the normed"
        " condition, the gate the bare one.",
    ),
}
