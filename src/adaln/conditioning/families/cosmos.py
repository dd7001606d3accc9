"""Cosmos: low rank matrices of each branch, and one vector that all branches share beside them."""

from dataclasses import replace
from typing import Any

import torch

from adaln.conditioning.family import Family, Layer
from adaln.conditioning.inputs import InputDraw

_STAGES = "(transformer_blocks|control_blocks)"
_ROLES = "shift scale gate"


def _beside_latents(config: Any, draw: InputDraw) -> dict[str, Any]:
    width = config.crossattn_proj_in_channels if config.use_crossattn_projection else config.text_embed_dim
    text, image_width = draw.text(width), config.img_context_dim_in
    _, high, wide = config.patch_size
    return {
        "timestep": draw.times(1000.0),
        "encoder_hidden_states": (text, draw.text(image_width)) if image_width else text,
        "padding_mask": torch.zeros(1, 1, draw.tokens_per_side * high, draw.tokens_per_side * wide),
    }


def _cosmos(config: Any, draw: InputDraw) -> dict[str, Any]:
    return {"hidden_states": draw.video(config.in_channels, config.patch_size), **_beside_latents(config, draw)}


def _cosmos_control(config: Any, draw: InputDraw) -> dict[str, Any]:
    """Two of the channels that its config counts are masks."""
    return {
        "controls_latents": draw.video(config.in_channels - 2, config.patch_size),
        "latents": draw.video(config.latent_channels - 2, config.patch_size),
        "condition_mask": draw.video(1, config.patch_size),
        **_beside_latents(config, draw),
    }


_COSMOS = Family(
    layers=(
        Layer(
            "time_embed.t_embedder.linear_2",
            f"attn+cross+mlp: {_ROLES}",
            shared_by="transformer_blocks control_blocks",
        ),
        *(
            Layer(f"{_STAGES}.N.norm{number}.linear_2", f"{branch}: {_ROLES}", "low_rank", ".attn1.to_q")
            for number, branch in enumerate(("attn", "cross", "mlp"), start=1)
        ),
        Layer("norm_out.linear_2", "final: shift scale", "low_rank", "proj_out"),
    ),
    head="proj_out",
    inputs={"CosmosTransformer3DModel": _cosmos, "CosmosControlNetModel": _cosmos_control},
    no_rows=rf"{_STAGES}.N.norm\d.linear_1 norm_out.linear_1",
    branch_ends=r"attn\d.to_out.0 ff.net.2",
    frequencies="cos, sin, D wide",
    surprise="To what a branch's low rank matrices give of the normed sinusoid, one shift, scale and gate is added"
    " that all branches of all blocks share, and its first two at the end as well; a learned position embedding is"
    " added before every block.",
)

ROWS = {
    "Cosmos": _COSMOS,
    "Cosmos (official)": replace(
        _COSMOS,
        layers=(
            Layer("t_embedder.1.linear_2", f"attn+cross+mlp: {_ROLES}", shared_by="blocks"),
            *(
                Layer(f"blocks.N.adaln_modulation_{name}.*", f"{branch}: {_ROLES}", "low_rank", ".self_attn.q_proj")
                for name, branch in (("self_attn", "attn"), ("cross_attn", "cross"), ("mlp", "mlp"))
            ),
            Layer("final_layer.adaln_modulation.*", "final: shift scale", "low_rank", "final_layer.linear"),
        ),
        head="final_layer.linear",
        inputs={},
        no_rows="",
        backbone="self_attn cross_attn mlp",
        branch_ends="self_attn.output_proj cross_attn.output_proj mlp.layer2",
    ),
}
