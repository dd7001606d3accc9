"""Flux and its kin: blocks of two streams, then blocks of one."""

from typing import Any

import torch

from adaln.conditioning.families.common import CONTEXT_SIX, JOINT, NORM_OUT, SIX
from adaln.conditioning.family import Branch, Family, Layer
from adaln.conditioning.inputs import InputDraw


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


ROWS = {
    "Flux": Family(
        layers=(
            Layer("transformer_blocks.N.norm1.linear", SIX),
            Layer("transformer_blocks.N.norm1_context.linear", CONTEXT_SIX),
            Layer("single_transformer_blocks.N.norm.linear", "attn_and_mlp: shift scale gate"),
            NORM_OUT,
        ),
        branches={**JOINT, "attn_and_mlp": Branch("attn", "proj_out", residual="norm")},
        head="proj_out",
        inputs={"FluxTransformer2DModel": _flux},
    ),
}
