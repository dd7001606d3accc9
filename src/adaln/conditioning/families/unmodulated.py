"""Networks that move no norm by a condition: time is a token, is added to tokens, or is no input at all."""

from typing import Any

import torch

from adaln.conditioning.family import Family
from adaln.conditioning.inputs import InputDraw


def _prior(config: Any, draw: InputDraw) -> dict[str, Any]:
    return {
        "hidden_states": draw.normal(config.embedding_dim),
        "timestep": draw.times(1000.0),
        "proj_embedding": draw.normal(config.embedding_proj_dim or config.embedding_dim),
        "encoder_hidden_states": draw.normal(config.num_embeddings, config.embedding_dim),
    }


def _temporal(config: Any, draw: InputDraw) -> dict[str, Any]:
    side = draw.tokens_per_side
    return {"hidden_states": draw.normal(config.in_channels, side, side), "num_frames": draw.frames}


def _spatio_temporal(network: Any, draw: InputDraw) -> dict[str, Any]:
    side, text_width = draw.tokens_per_side, network.transformer_blocks[0].attn2.to_k.in_features
    return {
        "hidden_states": draw.normal(network.in_channels, side, side),
        "encoder_hidden_states": draw.text(text_width),
        "image_only_indicator": torch.zeros(draw.batch_size // draw.frames, draw.frames),
    }


def _dual(network: Any, draw: InputDraw) -> dict[str, Any]:
    side, config = draw.tokens_per_side, network.transformers[0].config
    return {
        "hidden_states": draw.normal(config.in_channels, side, side),
        "encoder_hidden_states": draw.normal(sum(network.condition_lengths), config.cross_attention_dim),
        "timestep": draw.times(config.num_embeds_ada_norm or 1000.0).long()[0],
    }


def _cosmos_3(config: Any, draw: InputDraw) -> dict[str, Any]:
    """One packed sequence, text first."""
    texts, side = draw.text_tokens, draw.tokens_per_side
    images = draw.frames * side**2
    pixels = side * config.latent_patch_size
    return {
        "input_ids": torch.arange(texts),
        "text_indexes": torch.arange(texts),
        "position_ids": torch.arange(texts + images).expand(3, -1),
        "und_len": texts,
        "sequence_length": texts + images,
        "vision_tokens": [draw.normal(config.latent_channel, draw.frames, pixels, pixels)[:1]],
        "vision_token_shapes": [(draw.frames, side, side)],
        "vision_sequence_indexes": texts + torch.arange(images),
        "vision_mse_loss_indexes": texts + torch.arange(images),
        "vision_timesteps": torch.full((images,), 500.0),
        "vision_noisy_frame_indexes": [torch.arange(draw.frames)],
    }


ROWS = {
    "Cosmos 3": Family(
        head="proj_out",
        inputs={"Cosmos3OmniTransformer": _cosmos_3},
        backbone="self_attn mlp mlp_moe_gen",
        branch_ends=r"self_attn.to_(add_)?out \w*mlp\w*.down_proj",
        surprise="The embedding of time is added to the noisy tokens.",
    ),
    "unCLIP prior": Family(
        head="proj_to_clip_embeddings",
        inputs={"PriorTransformer": _prior},
        frequencies="cos, sin, D wide",
        surprise="Time is a token.",
    ),
    "U-Net transformers": Family(
        head="proj_out (transformers.0|transformers.1).proj_out",
        inputs={
            "TransformerTemporalModel": _temporal,
            "TransformerSpatioTemporalModel": _spatio_temporal,
            "DualTransformer2DModel": _dual,
        },
        classes="Transformer2DModel DreamLiteTransformer2DModel",
        frequencies="none, the U-Net around them knows the time",
        surprise="With a `norm_type` of ada_norm, ada_norm_zero or ada_norm_single they are of other families.",
    ),
}
