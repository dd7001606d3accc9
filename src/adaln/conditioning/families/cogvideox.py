"""CogVideoX, CogView and their kin: one layer modulates both streams, from a condition narrower than they are."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from adaln.conditioning.families.common import CONTEXT_SIX, FINAL_LAYER, NORM_OUT, SIX
from adaln.conditioning.family import BACKBONE, Family, Layer
from adaln.conditioning.inputs import InputDraw, MakeInputs

_INTERLEAVED = "; ".join(
    f"{branch}: shift; context_{branch}: shift; {branch}: scale; context_{branch}: scale; {branch}: gate;"
    f" context_{branch}: gate"
    for branch in ("attn", "mlp")
)


_OF_BRANCH = "{0}: shift scale gate; context_{0}: shift scale gate"


def _cogvideox(config: Any, draw: InputDraw) -> dict[str, Any]:
    size = [config.patch_size * draw.tokens_per_side] * 2
    if config.use_learned_positional_embeddings:
        size = [config.sample_height, config.sample_width]
    frames = draw.frames * (getattr(config, "patch_size_t", None) or 1)
    return {
        "hidden_states": draw.normal(frames, config.in_channels, *size),
        "encoder_hidden_states": draw.normal(config.max_text_seq_length, config.text_embed_dim),
        "timestep": draw.times(1000.0),
    }


def _cogvideox_1_5(config: Any, draw: InputDraw) -> dict[str, Any]:
    return {**_cogvideox(config, draw), "ofs": torch.full((1,), 2.0) if config.ofs_embed_dim else None}


def _consisid(config: Any, draw: InputDraw) -> dict[str, Any]:
    inputs = _cogvideox(config, draw)
    if config.is_train_face:
        features = draw.normal(config.LFE_num_scale, 3, config.LFE_vit_dim).transpose(0, 1)
        inputs |= {"id_cond": draw.normal(config.LFE_id_dim), "id_vit_hidden": features}
    return inputs


def _easyanimate(config: Any, draw: InputDraw) -> dict[str, Any]:
    patch, given = (1, config.patch_size, config.patch_size), config.in_channels - config.out_channels
    return {
        "hidden_states": draw.video(config.out_channels, patch),
        "encoder_hidden_states": draw.text(config.text_embed_dim),
        "encoder_hidden_states_t5": draw.text(config.text_embed_dim_t5) if config.text_embed_dim_t5 else None,
        "inpaint_latents": draw.video(given, patch) if given else None,
        "timestep": draw.times(1000.0),
    }


def _cogview(config: Any, draw: InputDraw) -> dict[str, Any]:
    size = torch.full((draw.batch_size, 2), 1024.0)
    return {
        "hidden_states": draw.image(config),
        "encoder_hidden_states": draw.text(config.text_embed_dim),
        "timestep": draw.times(1000.0),
        "original_size": size,
        "target_size": size,
        "crop_coords": torch.zeros_like(size),
    }


def _glm_image(config: Any, draw: InputDraw) -> dict[str, Any]:
    inputs = _cogview(config, draw)
    del inputs["original_size"]
    prior = draw.labels(config.prior_vq_quantizer_codebook_size)[:, None].expand(-1, draw.tokens_per_side**2)
    return {**inputs, "prior_token_id": prior, "prior_token_drop": torch.zeros(draw.batch_size, dtype=torch.bool)}


def _cogview_family(rows: str, inputs: Mapping[str, MakeInputs], signs: str, surprise: str) -> Family:
    return Family(
        (
            Layer("transformer_blocks.N.norm1.linear", rows, width_of=".attn1.to_q"),
            replace(NORM_OUT, width_of="proj_out"),
        ),
        head="proj_out",
        inputs=inputs,
        signs=signs,
        surprise=surprise,
    )


ROWS = {
    "CogVideoX": Family(
        (
            Layer("transformer_blocks.N.norm1.linear", _OF_BRANCH.format("attn"), width_of=".attn1.to_q"),
            Layer("transformer_blocks.N.norm2.linear", _OF_BRANCH.format("mlp"), width_of=".attn1.to_q"),
            Layer("norm_out.linear", "final: shift scale", width_of="proj_out"),
        ),
        head="proj_out",
        inputs={
            "CogVideoXTransformer3DModel": _cogvideox_1_5,
            "ConsisIDTransformer3DModel": _consisid,
            "EasyAnimateTransformer3DModel": _easyanimate,
        },
        backbone=f"{BACKBONE} txt_ff",
        frequencies="cos, sin, as many as D",
        surprise="The last layer holds shift before scale, under one name with SD3's, which holds scale before shift.",
    ),
    "CogVideoX (SAT)": Family(
        (
            Layer(
                "mixins.adaln_layer.adaLN_modulations.N.*",
                f"{SIX}; {CONTEXT_SIX}",
                width_of="mixins.final_layer.linear",
            ),
            replace(FINAL_LAYER, name=f"mixins.{FINAL_LAYER.name}", width_of="mixins.final_layer.linear"),
        ),
        head="mixins.final_layer.linear",
        backbone="attention mlp",
    ),
    "CogView3+": _cogview_family(
        f"{SIX}; {CONTEXT_SIX}",
        {"CogView3PlusTransformer2DModel": _cogview},
        "patch_embed.proj",
        "Its tensors are named and shaped as CogView4's and hold the same roles in another order.",
    ),
    "CogView4": _cogview_family(
        _INTERLEAVED,
        {"CogView4Transformer2DModel": _cogview, "GlmImageTransformer2DModel": _glm_image},
        "(patch_embed|image_projector).proj",
        "The roles of image and text alternate, and its tensors are named and shaped as CogView3+'s.",
    ),
}
