"""DiT as its code names it, what keeps its names (SiT, LightningDiT, JiT, ...) or its six chunks (PRX, ERNIE-Image)."""

import re
from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from typing import Any

import torch

from adaln.conditioning.families.common import FINAL_LAYER, NORM_OUT, SIX
from adaln.conditioning.family import Family, Layer
from adaln.conditioning.inputs import InputDraw

_BLOCK = "blocks.N.adaLN_modulation.*"
_MDT_STAGES = "en_blocks|en_inblocks|en_outblocks|sideblocks|de_blocks"
_VAR_SIX = "attn: gate; mlp: gate; attn: scale; mlp: scale; attn: shift; mlp: shift"
_ZERO = "zero, weight and bias, the head too (adaLN-Zero)"
_ENDS = r"attn\d.to_out.0 ff.net.2"
_HALF_MINUS_1 = "cos, sin, 10000^(-i/(half - 1))"


def _dit(config: Any, draw: InputDraw) -> dict[str, Any]:
    return {
        "hidden_states": draw.image(config),
        "timestep": draw.times(1000.0).long(),
        "class_labels": draw.labels(config.num_embeds_ada_norm),
    }


def _transformer_2d(config: Any, draw: InputDraw) -> dict[str, Any]:
    """Images of codes, in patches or in pixels, norms of any kind; `ada_norm` takes one time for the whole batch."""
    side, norm_type, num_times = draw.tokens_per_side, config.norm_type, config.num_embeds_ada_norm
    text_width = config.get("caption_channels") or config.cross_attention_dim
    times = draw.times(num_times or 1000.0).long()
    sized = norm_type == "ada_norm_single" and (config.use_additional_conditions or config.sample_size == 128)
    if config.get("num_vector_embeds"):
        hidden_states = draw.labels(config.num_vector_embeds - 1, side**2)
    elif config.get("patch_size"):
        hidden_states = draw.image(config)
    else:
        hidden_states = draw.normal(config.in_channels, side, side)
    return {
        "hidden_states": hidden_states,
        "encoder_hidden_states": draw.text(text_width) if text_width else None,
        "timestep": times[0] if norm_type == "ada_norm" else times,
        "class_labels": draw.labels(num_times) if norm_type == "ada_norm_zero" else None,
        "added_cond_kwargs": {
            "resolution": torch.full((draw.batch_size, 2), 1024.0) if sized else None,
            "aspect_ratio": torch.ones(draw.batch_size, 1) if sized else None,
        },
    }


def _hunyuan_dit(config: Any, draw: InputDraw) -> dict[str, Any]:
    return {
        "hidden_states": draw.image(config),
        "timestep": draw.times(1000.0),
        "encoder_hidden_states": draw.normal(config.text_len, config.cross_attention_dim),
        "text_embedding_mask": torch.ones(draw.batch_size, config.text_len),
        "encoder_hidden_states_t5": draw.normal(config.text_len_t5, config.cross_attention_dim_t5),
        "text_embedding_mask_t5": torch.ones(draw.batch_size, config.text_len_t5),
        "image_meta_size": torch.tensor([[1024, 1024, 1024, 1024, 0, 0]] * draw.batch_size),
        "style": torch.zeros(draw.batch_size, dtype=torch.long),
    }


def _hunyuan_dit_control(config: Any, draw: InputDraw) -> dict[str, Any]:
    return {**_hunyuan_dit(config, draw), "controlnet_cond": draw.image(config)}


def _prx(config: Any, draw: InputDraw) -> dict[str, Any]:
    return {
        "hidden_states": draw.image(config),
        "timestep": draw.times(1.0),
        "encoder_hidden_states": draw.text(config.context_in_dim),
    }


def _ernie_image(config: Any, draw: InputDraw) -> dict[str, Any]:
    return {
        "hidden_states": draw.image(config),
        "timestep": draw.times(1000.0),
        "text_bth": draw.text(config.text_in_dim),
        "text_lens": torch.full((draw.batch_size,), draw.text_tokens),
    }


_DIT = Family(
    layers=(Layer(_BLOCK, SIX), FINAL_LAYER),
    head="final_layer.linear",
    branch_ends="attn.proj mlp.fc2 mlp.c_proj mlp.w3",
    start=_ZERO,
)
"""SiT and REPA, DiT-LLaMA, LightningDiT, JiT, Latte, DDT and RAE's DDT head too."""
_HUNYUAN_DIT = Family(
    layers=(Layer("blocks.N.norm1.linear", "attn: shift"), NORM_OUT),
    head="proj_out",
    inputs={"HunyuanDiT2DModel": _hunyuan_dit, "HunyuanDiT2DControlNetModel": _hunyuan_dit_control},
    branch_ends=_ENDS,
    ungated_ends=_ENDS,
    surprise="Time shifts what enters self-attention, and that is all; long skips between the halves.",
)

_STATIC = (Layer("blocks.N.attn_scale", "attn: gate", "static"), Layer("blocks.N.mlp_scale", "mlp: gate", "static"))
_MECHANISMS = {
    roles: "" if roles == "shift scale gate" else "_" + re.sub(r"(\w+)\((\w+)\)", r"\2_\1", roles).replace(" ", "_")
    for roles in (
        " ".join(filter(None, chunks))
        for chunks in product(("shift", ""), ("scale", "scale(sigmoid)"), ("gate", "gate(tanh)", "gate(sigmoid)", ""))
    )
}
"""The chunks that a branch of our own networks may have, and what the names of their modulation layers then end in."""


def _own(mechanisms: Mapping[str, str], *, tables: bool) -> tuple[Layer, ...]:
    """Modulation layers: one matrix with tables, or a matrix of each block's own, or one for all, or both."""
    layers: list[Layer] = []
    for roles, suffix in mechanisms.items():
        rows = f"attn: {roles}; mlp: {roles}"
        table, matrix = f"blocks.N.scale_shift_table{suffix}", f"blocks.N.adaLN_modulation{suffix}.*"
        layers.append(Layer(f"t_block{suffix}.*", rows, shared_by="" if tables else "blocks"))
        layers.append(Layer(table, rows, "table") if tables else Layer(matrix, rows))
    return tuple(layers)


_POST = {"shift scale": "_post_shift_scale"}
_POST_SURPRISE = "Shift and scale are those of what a branch gives."
_UDIT_BLOCK = "(encoder_level_1|encoder_level_2|latent|decoder_level_2|decoder_level_1).N."
_UDIT_STATIC = tuple(Layer(f"{_UDIT_BLOCK}{name}#_scale", f"{name}#: gate", "static") for name in ("attn", "mlp"))


def _units(mechanisms: Mapping[str, str]) -> tuple[Layer, ...]:
    """Modulation layers of a U-DiT's units."""
    return tuple(
        Layer(f"{_UDIT_BLOCK}adaLN_modulation#{suffix}.*", f"attn#: {roles}; mlp#: {roles}")
        for roles, suffix in mechanisms.items()
    )


_UDIT = Family(
    layers=(*_units({"shift scale gate": ""}), FINAL_LAYER),
    head="final_layer.out_proj",
    branch_ends="attn1.to_out mlp1.project_out.1 attn2.to_out mlp2.project_out.1",
    start=_ZERO,
)

ROWS = {
    "DiT": _DIT,
    "LightningDiT-no-shift": replace(_DIT, layers=(Layer(_BLOCK, "attn: scale gate; mlp: scale gate"), FINAL_LAYER)),
    "adaLN-no-gate": replace(_DIT, layers=(Layer(_BLOCK, "attn: shift scale; mlp: shift scale"), FINAL_LAYER)),
    "DiT-shared": replace(
        _DIT, layers=(Layer("t_block.*", SIX), Layer("blocks.N.scale_shift_table", SIX, "table"), FINAL_LAYER)
    ),
    "DiT-mechanisms": replace(_DIT, layers=(*_own(_MECHANISMS, tables=False), *_STATIC, FINAL_LAYER)),
    "DiT-shared-mechanisms": replace(_DIT, layers=(*_own(_MECHANISMS, tables=True), *_STATIC, FINAL_LAYER)),
    "DiT-post-modulation": replace(
        _DIT,
        layers=(*_own(_POST, tables=False), FINAL_LAYER),
        ungated_ends=_DIT.branch_ends,
        surprise=_POST_SURPRISE,
    ),
    "DiT-shared-post-modulation": replace(
        _DIT, layers=(*_own(_POST, tables=True), FINAL_LAYER), ungated_ends=_DIT.branch_ends
    ),
    "MDT": replace(
        _DIT,
        layers=(
            Layer("(en_blocks|en_inblocks|en_outblocks|sideblocks|de_blocks).N.adaLN_modulation.*", SIX),
            FINAL_LAYER,
        ),
        surprise="The side block fills in masked tokens and runs in training alone.",
    ),
    "PRX": Family(
        layers=(Layer("blocks.N.modulation.lin", SIX), FINAL_LAYER),
        head="final_layer.linear",
        inputs={"PRXTransformer2DModel": _prx},
        backbone="attention gate_proj up_proj down_proj",
        branch_ends="attention.to_out.0 down_proj",
        start="blocks zero; last layer and head as torch",
        surprise="Its head and the last layer start as torch starts any: not adaLN-Zero.",
    ),
    "ERNIE-Image": Family(
        layers=(
            Layer("adaLN_modulation.*", SIX, shared_by="layers"),
            Layer("final_norm.linear", "final: scale shift"),
        ),
        head="final_linear",
        signs="adaLN_sa_ln",
        inputs={"ErnieImageTransformer2DModel": _ernie_image},
        no_rows="layers.N.adaLN_(sa|mlp)_ln",
        backbone="self_attention mlp",
        branch_ends="self_attention.to_out.0 mlp.linear_fc2",
        start="the shared layer and the head zero; the last layer as torch",
        frequencies="sin, cos, D wide",
        surprise="One modulation for all blocks, without tables; no SiLU before the last layer's.",
    ),
    "VAR": Family(
        layers=(
            Layer(
                "shared_ada_lin.*",
                _VAR_SIX,
            ),
            Layer("blocks.N.ada_lin.*", _VAR_SIX),
            Layer("blocks.N.ada_gss", _VAR_SIX, "table"),
            Layer("head_nm.ada_lin.*", "final: scale shift"),
        ),
        head="head",
        backbone="attn ffn",
        branch_ends="attn.proj ffn.fc2",
        frequencies="none: the condition is the class",
        surprise="Predicts codes scale by scale; its gates are called gamma.",
    ),
    "U-DiT": _UDIT,
    "U-DiT-mechanisms": replace(_UDIT, layers=(*_units(_MECHANISMS), *_UDIT_STATIC, FINAL_LAYER)),
    "U-DiT-post-modulation": replace(
        _UDIT, layers=(*_units(_POST), FINAL_LAYER), ungated_ends=_UDIT.branch_ends, surprise=_POST_SURPRISE
    ),
    "diffusers-DiT": Family(
        layers=(Layer("transformer_blocks.N.norm1.linear", SIX), Layer("proj_out_1", "final: shift scale")),
        head="proj_out_2 proj_out",
        inputs={
            "DiTTransformer2DModel": _dit,
            "Transformer2DModel": _transformer_2d,
            "DreamLiteTransformer2DModel": _transformer_2d,
        },
        branch_ends=_ENDS,
        frequencies=_HALF_MINUS_1,
        surprise="Every block has embedders of time and label of its own; the last layer uses those of the first.",
    ),
    "HunyuanDiT": _HUNYUAN_DIT,
    "HunyuanDiT (official)": replace(
        _HUNYUAN_DIT,
        layers=(Layer("blocks.N.default_modulation.*", "attn: shift"), FINAL_LAYER),
        head="final_layer.linear",
        inputs={},
        backbone=r"attn\d mlp",
        branch_ends=r"attn\d.out_proj mlp.fc2",
        ungated_ends=r"attn\d.out_proj mlp.fc2",
    ),
}
