"""SD3 and its kin: image and context attend together, each modulated by layers of its own in every block."""

from math import prod
from typing import Any

import torch

from adaln.conditioning.families.common import CONTEXT_SIX, FINAL_LAYER, NORM_OUT, SIX, groups_with_mlp
from adaln.conditioning.family import Family, Layer
from adaln.conditioning.inputs import InputDraw

_ATTN_2 = f"{SIX}; attn2: shift scale gate"
_TANH = "attn: scale gate(tanh); mlp: scale gate(tanh)"
_CONTEXT_TANH = "context_attn: scale gate(tanh); context_mlp: scale gate(tanh)"
_AURAFLOW = "Attention is added inside the MLP's branch alone: what passes by is the input of the block."
_UNMODULATED_TIME = "Text and reference images are modulated by t = 0."


def _sd3(config: Any, draw: InputDraw) -> dict[str, Any]:
    return {
        "hidden_states": draw.image(config),
        "encoder_hidden_states": draw.text(config.joint_attention_dim),
        "pooled_projections": draw.normal(config.pooled_projection_dim),
        "timestep": draw.times(1000.0),
    }


def _sd3_controlnet(config: Any, draw: InputDraw) -> dict[str, Any]:
    side = config.patch_size * draw.tokens_per_side
    width = config.num_attention_heads * config.attention_head_dim
    return {
        "hidden_states": draw.image(config) if config.use_pos_embed else draw.normal(draw.tokens_per_side**2, width),
        "controlnet_cond": draw.normal(config.in_channels + config.extra_conditioning_channels, side, side),
        "encoder_hidden_states": draw.text(config.joint_attention_dim) if config.joint_attention_dim else None,
        "pooled_projections": draw.normal(config.pooled_projection_dim),
        "timestep": draw.times(1000.0),
    }


def _qwen_image(config: Any, draw: InputDraw) -> dict[str, Any]:
    side = draw.tokens_per_side
    image_and_reference = [(1, side, side), (1, side // 2, side)]
    return {
        "hidden_states": draw.normal(sum(map(prod, image_and_reference)), config.in_channels),
        "encoder_hidden_states": draw.text(config.joint_attention_dim),
        "encoder_hidden_states_mask": torch.ones(draw.batch_size, draw.text_tokens, dtype=torch.bool),
        "timestep": draw.times(1.0),
        "img_shapes": [image_and_reference] * draw.batch_size,
    }


def _qwen_image_transformer(config: Any, draw: InputDraw) -> dict[str, Any]:
    is_layer = torch.zeros(draw.batch_size, dtype=torch.long) if config.use_additional_t_cond else None
    return {**_qwen_image(config, draw), "additional_t_cond": is_layer}


def _qwen_image_controlnet(config: Any, draw: InputDraw) -> dict[str, Any]:
    inputs = _qwen_image(config, draw)
    channels = config.in_channels + config.extra_condition_channels
    return {**inputs, "controlnet_cond": draw.normal(inputs["hidden_states"].shape[1], channels)}


def _qwen_image_2_1(config: Any, draw: InputDraw) -> dict[str, Any]:
    """Text, a reference image, the image: four tokens of an image have one place in the text."""
    side = draw.tokens_per_side
    reference_and_image = [(1, side // 2, side), (1, side, side)]
    places = [prod(shape) // 4 for shape in reference_and_image]
    is_image = torch.arange(draw.text_tokens + sum(places)) >= draw.text_tokens
    return {
        "hidden_states": draw.normal(sum(map(prod, reference_and_image)), config.in_channels),
        "encoder_hidden_states": draw.normal(draw.text_tokens + places[0], config.context_in_dim),
        "timestep": draw.times(1.0),
        "img_shapes": [reference_and_image] * draw.batch_size,
        "img_mask": is_image.expand(draw.batch_size, -1),
    }


def _mochi(config: Any, draw: InputDraw) -> dict[str, Any]:
    return {
        "hidden_states": draw.video(config.in_channels, (1, config.patch_size, config.patch_size)),
        "encoder_hidden_states": draw.text(config.text_embed_dim),
        "encoder_attention_mask": torch.ones(draw.batch_size, draw.text_tokens, dtype=torch.bool),
        "timestep": draw.times(1000.0),
    }


def _hidream(config: Any, draw: InputDraw) -> dict[str, Any]:
    t5, llama = config.caption_channels
    llama_states = draw.normal(max(config.llama_layers) + 1, draw.text_tokens, llama)
    return {
        "hidden_states": draw.image(config),
        "timesteps": draw.times(1000.0),
        "encoder_hidden_states_t5": draw.text(t5),
        "encoder_hidden_states_llama3": llama_states.transpose(0, 1),
        "pooled_embeds": draw.normal(config.text_emb_dim),
    }


ROWS = {
    "SD3": Family(
        (
            Layer("transformer_blocks.N.norm1.linear", SIX),
            Layer("transformer_blocks.N.norm1.linear", _ATTN_2),
            Layer("transformer_blocks.N.norm1_context.linear", CONTEXT_SIX),
            Layer("transformer_blocks.N.norm1_context.linear", "context_attn: scale shift"),
            NORM_OUT,
        ),
        head="proj_out",
        inputs={"SD3Transformer2DModel": _sd3, "SD3ControlNetModel": _sd3_controlnet},
        surprise="The last block reads the text and no more: its scale comes before its shift.",
    ),
    "SD3 (official)": Family(
        (
            Layer("joint_blocks.N.x_block.adaLN_modulation.*", SIX),
            Layer("joint_blocks.N.x_block.adaLN_modulation.*", _ATTN_2),
            Layer("joint_blocks.N.context_block.adaLN_modulation.*", CONTEXT_SIX),
            Layer("joint_blocks.N.context_block.adaLN_modulation.*", "context_attn: shift scale"),
            FINAL_LAYER,
        ),
        head="final_layer.linear",
        backbone="(x|context)_block.(attn2?|mlp)",
        surprise="Under diffusers' names scale comes before shift in the last block's text and in the last layer.",
    ),
    "AuraFlow": Family(
        (
            Layer("joint_transformer_blocks.N.norm1.linear", SIX),
            Layer("joint_transformer_blocks.N.norm1_context.linear", CONTEXT_SIX),
            Layer("single_transformer_blocks.N.norm1.linear", SIX),
            NORM_OUT,
        ),
        head="proj_out",
        inputs={
            "AuraFlowTransformer2DModel": lambda config, draw: {
                "hidden_states": draw.image(config),
                "encoder_hidden_states": draw.text(config.joint_attention_dim),
                "timestep": draw.times(1.0),
            }
        },
        groups=groups_with_mlp(r"ff(_context)?\.linear_[12]", r"ff(_context)?\.out_projection"),
        surprise=_AURAFLOW,
    ),
    "AuraFlow (official)": Family(
        (
            Layer("double_layers.N.modX.*", SIX),
            Layer("double_layers.N.modC.*", CONTEXT_SIX),
            Layer("single_layers.N.modCX.*", SIX),
            Layer("modF.*", "final: shift scale"),
        ),
        head="final_linear",
        no_rows="cond_seq_linear",
        backbone="attn mlp mlp[CX]",
        start="zero in the blocks",
        surprise=_AURAFLOW,
    ),
    "Qwen-Image": Family(
        (
            Layer("transformer_blocks.N.img_mod.*", SIX),
            Layer("transformer_blocks.N.txt_mod.*", CONTEXT_SIX),
            NORM_OUT,
        ),
        head="proj_out",
        inputs={
            "QwenImageTransformer2DModel": _qwen_image_transformer,
            "QwenImageControlNetModel": _qwen_image_controlnet,
        },
        backbone="attn img_mlp txt_mlp",
        surprise="When it edits, the tokens of the reference image are modulated by t = 0, through the same matrices.",
    ),
    "Qwen-Image 2.1": Family(
        (
            Layer("modulation.*", _TANH, shared_by="transformer_blocks"),
            Layer("norm_out.linear", "final: scale"),
        ),
        head="proj_out",
        inputs={"QwenImage21Transformer2DModel": _qwen_image_2_1},
        backbone="attn img_mlp",
        groups=groups_with_mlp(r"img_mlp\.(proj|gate_layer)", r"img_mlp\.out"),
        surprise=f"One matrix without bias modulates all blocks alike. {_UNMODULATED_TIME}",
    ),
    "Mochi": Family(
        (
            Layer("transformer_blocks.N.norm1.linear", _TANH),
            Layer("transformer_blocks.N.norm1_context.linear", _CONTEXT_TANH, width_of=".attn1.add_q_proj"),
            Layer("transformer_blocks.N.norm1_context.linear_1", "context_attn: scale", width_of=".attn1.add_q_proj"),
            NORM_OUT,
        ),
        head="proj_out",
        inputs={"MochiTransformer3DModel": _mochi},
        surprise="The text is narrower than the video, and what a gate multiplies is normed first.",
    ),
    "Mochi (official)": Family(
        (
            Layer("blocks.N.mod_x", _TANH),
            Layer("blocks.N.mod_y", _CONTEXT_TANH, width_of=".attn.qkv_y"),
            Layer("blocks.N.mod_y", "context_attn: scale", width_of=".attn.qkv_y"),
            Layer("final_layer.mod", "final: shift scale"),
        ),
        head="final_layer.linear",
        backbone="attn mlp_[xy]",
        surprise="The text is narrower than the video, and what a gate multiplies is normed first.",
    ),
    "HiDream": Family(
        (
            Layer("double_stream_blocks.N.block.adaLN_modulation.*", f"{SIX}; {CONTEXT_SIX}"),
            Layer("single_stream_blocks.N.block.adaLN_modulation.*", SIX),
            FINAL_LAYER,
        ),
        head="final_layer.linear",
        inputs={"HiDreamImageTransformer2DModel": _hidream},
        backbone=r"block.attn1 block.ff_[it].w\d block.ff_i.shared_experts block.ff_i.experts",
        groups=groups_with_mlp(r"ff_[it]\.(.*\.)?w[13]", r"ff_[it]\.(.*\.)?w2"),
        surprise="The image's MLP is a mixture of experts, whose router sees what is modulated.",
    ),
}
