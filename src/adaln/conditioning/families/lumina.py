"""Lumina and its kin: scale and gate alone, the gate through a tanh, norms before and after every branch."""

from dataclasses import replace
from typing import Any

import torch

from adaln.conditioning.families.common import NORM_OUT
from adaln.conditioning.family import Family, Layer
from adaln.conditioning.inputs import InputDraw

_SCALE_GATE = "attn: scale gate(tanh); mlp: scale gate(tanh)"
_WIDTH = ".attn.to_q .attn1.to_q .attention.to_q .attention.qkv .attention.wq"
_LINEAR_1 = Layer("norm_out.linear_1", "final: scale", width_of="norm_out.linear_2")
_FINAL_SCALE = Layer("final_layer.adaLN_modulation.1", "final: scale", width_of="final_layer.linear")


def _blocks(name: str) -> Layer:
    """A layer of every block; the condition is narrower than the tokens: at most 1024 wide, from Z-Image on 256."""
    return Layer(name, _SCALE_GATE, width_of=_WIDTH)


def _lumina_2(config: Any, draw: InputDraw) -> dict[str, Any]:
    return {
        "hidden_states": draw.image(config),
        "timestep": draw.times(1.0),
        "encoder_hidden_states": draw.text(config.cap_feat_dim),
        "encoder_attention_mask": torch.ones(draw.batch_size, draw.text_tokens, dtype=torch.bool),
    }


def _lumina_next(config: Any, draw: InputDraw) -> dict[str, Any]:
    pairs = config.hidden_size // config.num_attention_heads // 2
    angles = torch.rand(draw.tokens_per_side, draw.tokens_per_side, pairs, generator=draw.rng)
    return {
        "hidden_states": draw.image(config),
        "timestep": draw.times(1.0),
        "encoder_hidden_states": draw.text(config.cross_attention_dim),
        "encoder_mask": torch.ones(draw.batch_size, draw.text_tokens),
        "image_rotary_emb": torch.polar(torch.ones_like(angles), angles),
        "cross_attention_kwargs": {},
    }


def _fibo_2(config: Any, draw: InputDraw) -> dict[str, Any]:
    return {
        "hidden_states": draw.image(config),
        "timestep": draw.times(1.0),
        "encoder_hidden_states": draw.normal(
            1 + len(config.injection_layer_ids), draw.text_tokens, config.cap_feat_dim
        ),
    }


def _z_image(config: Any, draw: InputDraw) -> dict[str, Any]:
    patch_size, frames = config.all_patch_size[0], config.all_f_patch_size[0]
    side = draw.tokens_per_side * patch_size
    return {
        "x": list(draw.normal(config.in_channels, frames, side, side)),
        "t": draw.times(1.0),
        "cap_feats": list(draw.text(config.cap_feat_dim)),
        "patch_size": patch_size,
        "f_patch_size": frames,
    }


def _z_image_control(config: Any, draw: InputDraw) -> dict[str, Any]:
    """Its config says nothing of the network beside which it runs: 16 channels and text of 2560 as published."""
    patch_size, frames = config.all_patch_size[0], config.all_f_patch_size[0]
    side = draw.tokens_per_side * patch_size
    return {
        "x": list(draw.normal(16, frames, side, side)),
        "t": draw.times(1.0),
        "cap_feats": list(draw.text(2560)),
        "control_context": list(draw.normal(config.control_in_dim, frames, side, side)),
        "patch_size": patch_size,
        "f_patch_size": frames,
    }


def _ideogram_4(config: Any, draw: InputDraw) -> dict[str, Any]:
    """One packed sequence: 3 says that a token is text, 2 that it is of the image."""
    positions = torch.cat([torch.arange(draw.text_tokens)[:, None].expand(-1, 3), draw.positions()])
    is_text = torch.arange(len(positions)) < draw.text_tokens
    return {
        "hidden_states": draw.normal(len(positions), config.in_channels),
        "timestep": draw.times(1.0),
        "encoder_hidden_states": draw.normal(len(positions), config.llm_features_dim),
        "position_ids": positions.expand(draw.batch_size, -1, -1),
        "segment_ids": torch.zeros(draw.batch_size, len(positions), dtype=torch.long),
        "indicator": torch.where(is_text, 3, 2).expand(draw.batch_size, -1),
    }


def _nucleus(config: Any, draw: InputDraw) -> dict[str, Any]:
    side = draw.tokens_per_side
    return {
        "hidden_states": draw.normal(side**2, config.in_channels),
        "img_shapes": [(1, side, side)] * draw.batch_size,
        "encoder_hidden_states": draw.text(config.joint_attention_dim),
        "timestep": draw.times(1.0),
    }


_LUMINA_2 = Family(
    layers=(_blocks("(noise_refiner|layers).N.norm1.linear"), _LINEAR_1),
    head="norm_out.linear_2",
    inputs={"Lumina2Transformer2DModel": _lumina_2},
    backbone="attn feed_forward",
    branch_ends="attn.to_out.0 feed_forward.linear_2",
    surprise="Text tokens are in the one stream and under the same scale and gate, but not in the context refiner.",
)
_LUMINA_NEXT = Family(
    layers=(_blocks("layers.N.norm1.linear"), _LINEAR_1),
    head="norm_out.linear_2",
    inputs={"LuminaNextDiT2DModel": _lumina_next},
    static_gates="layers.N.gate",
    backbone=r"attn\d feed_forward",
    branch_ends="attn2.to_out.0 feed_forward.linear_2",
    surprise="Cross-attention reads what self-attention reads and adds to it before the one gate, through a static"
    " tanh gate per head that starts at 0.",
)
_Z_IMAGE = Family(
    layers=(
        _blocks("(noise_refiner|control_noise_refiner|layers|control_layers).N.adaLN_modulation.0"),
        Layer("all_final_layer.*-*.adaLN_modulation.1", "final: scale", width_of="rows"),
    ),
    head=r"all_final_layer.\d+-\d+.linear",
    inputs={"ZImageTransformer2DModel": _z_image, "ZImageControlNetModel": _z_image_control},
    backbone="attention feed_forward",
    branch_ends="attention.to_out.0 feed_forward.w2",
    surprise="No SiLU before the blocks' layers, one before the last; one last layer for each patch size.",
)


def _official(family: Family, *layers: Layer, **words: Any) -> Family:
    """The names of its own code, in which the last layer is DiT's."""
    return replace(family, layers=(*layers, _FINAL_SCALE), head="final_layer.linear", inputs={}, **words)


ROWS = {
    "Lumina-Next": _LUMINA_NEXT,
    "Lumina-Next (official)": _official(
        _LUMINA_NEXT,
        _blocks("layers.N.adaLN_modulation.1"),
        static_gates="layers.N.attention.gate",
        backbone="attention feed_forward",
        branch_ends="attention.wo feed_forward.w2",
    ),
    "Lumina 2": _LUMINA_2,
    "Lumina 2 (official)": _official(
        _LUMINA_2,
        _blocks("(noise_refiner|layers).N.adaLN_modulation.1"),
        backbone="attention feed_forward",
        branch_ends="attention.out feed_forward.w2",
    ),
    "Z-Image": _Z_IMAGE,
    "Z-Image (ComfyUI)": _official(_Z_IMAGE, *_Z_IMAGE.layers[:1], branch_ends="attention.out feed_forward.w2"),
    "FIBO 2": replace(
        _official(_Z_IMAGE, _blocks("(noise_refiner|layers).N.adaLN_modulation.0")),
        inputs={"BriaFibo2Transformer2DModel": _fibo_2},
        static_gates="layers.N.cross_attn_gate",
        backbone=r"\w*attention feed_forward ffn",
        branch_ends=r"\w*attention.to_out.0 feed_forward.w2 ffn.w2",
        surprise="Tokens of text and of reference images are modulated by t = 0; cross-attention has a static tanh gate"
        " that starts at 0.",
    ),
    "Ideogram 4": Family(
        layers=(
            _blocks("layers.N.adaln_modulation"),
            Layer("final_layer.adaln_modulation", "final: scale", width_of="final_layer.linear"),
        ),
        head="final_layer.linear",
        inputs={"Ideogram4Transformer2DModel": _ideogram_4},
        no_rows="adaln_proj llm_cond_proj",
        backbone="attention feed_forward",
        branch_ends="attention.to_out.0 feed_forward.w2",
        frequencies="sin, cos, 10000^(-i/(half - 1))",
        surprise="The last layer puts a second SiLU on the condition.",
    ),
    "Nucleus-Image": Family(
        layers=(
            Layer("transformer_blocks.N.img_mod.*", "attn: scale gate(clamped_tanh); mlp: scale gate(clamped_tanh)"),
            NORM_OUT,
        ),
        head="proj_out",
        inputs={"NucleusMoEImageTransformer2DModel": _nucleus},
        backbone="attn img_mlp",
        branch_ends="attn.to_out.0 img_mlp.(shared_expert.)?net.2 img_mlp.experts.down_proj",
        frequencies="cos, sin, D wide",
        surprise="Gates are clamped to +-2 before the tanh; the router of the experts sees t and the unmodulated norm;"
        " diffusers leaves the experts uninitialised.",
    ),
}
