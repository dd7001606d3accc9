"""Small configurations of diffusers' networks in which image or video and text attend together.

A variant of a class stands after a space. Widths of tokens, condition and text differ wherever the class lets them.
"""

from typing import Any

# fmt: off
_HEADS = {"num_attention_heads": 2, "attention_head_dim": 12}
_TWO = {**_HEADS, "num_layers": 2, "in_channels": 4}
_BOTH = {**_TWO, "num_single_layers": 2}
_FLUX = {**_BOTH, "joint_attention_dim": 14, "axes_dims_rope": (4, 4, 4)}
_POOLED = {**_FLUX, "pooled_projection_dim": 10}
_MOTIF = {
    **_TWO, "in_channels": 9, "out_channels": 4, "num_single_layers": 3, "num_decoder_layers": 1, "mlp_ratio": 2.0,
    "text_embed_dim": 14, "rope_axes_dim": (4, 4, 4),
}
_HUNYUAN = {
    **_BOTH, "out_channels": 4, "num_refiner_layers": 2, "text_embed_dim": 14, "rope_axes_dim": (4, 4, 4),
}
_HUNYUAN_VIDEO = {**_HUNYUAN, "pooled_projection_dim": 10, "patch_size": 1}
_HUNYUAN_IMAGE = {**_HUNYUAN, "text_embed_2_dim": 10, "rope_axes_dim": (6, 6)}
_FLUX_2 = {
    **_BOTH, "joint_attention_dim": 14, "timestep_guidance_channels": 16, "mlp_ratio": 2.0,
    "axes_dims_rope": (2, 2, 4, 4),
}
_FLUX_3 = {
    **_BOTH, "cond_in_channels": 6, "joint_attention_dim": 14, "timestep_channels": 16, "mlp_ratio": 2.0,
    "axes_dims_rope": (2, 2, 4, 4),
}
_SD3 = {
    **_TWO, "sample_size": 4, "patch_size": 1, "out_channels": 4, "num_layers": 3, "pos_embed_max_size": 4,
    "joint_attention_dim": 14, "caption_projection_dim": 24, "pooled_projection_dim": 10,
}
_SD35 = {**_SD3, "dual_attention_layers": (0, 1), "qk_norm": "rms_norm"}
_SD3_CONTROL = {**_SD3, "num_layers": 2}
_IMAGE_ONLY = {**_SD3_CONTROL, "joint_attention_dim": None, "pos_embed_type": None}
_COGVIDEOX = {
    **_TWO, "attention_head_dim": 16, "out_channels": 4, "time_embed_dim": 20, "text_embed_dim": 14, "patch_size": 1,
    "sample_width": 4, "sample_height": 4, "sample_frames": 5, "max_text_seq_length": 3,
}
_FACE = {
    "is_train_face": True, "cross_attn_interval": 2, "cross_attn_dim_head": 8, "cross_attn_num_heads": 2,
    "LFE_id_dim": 6, "LFE_vit_dim": 1024, "LFE_depth": 5, "LFE_dim_head": 8, "LFE_num_heads": 2, "LFE_num_id_token": 2,
    "LFE_num_querie": 3, "LFE_output_dim": 32, "LFE_ff_mult": 1,
}
_COGVIEW = {**_TWO, "patch_size": 1, "out_channels": 4, "text_embed_dim": 14, "time_embed_dim": 20, "condition_dim": 8}
_QWEN = {**_FLUX, "in_channels": 16, "out_channels": 4}
del _QWEN["num_single_layers"]

JOINT: dict[str, dict[str, Any]] = {
    "FluxTransformer2DModel": _POOLED,
    "FluxTransformer2DModel guided": {**_POOLED, "guidance_embeds": True},
    "FluxControlNetModel": _POOLED,
    "FluxControlNetModel without single blocks": {**_POOLED, "num_single_layers": 0},
    "FluxControlNetModel union": {**_POOLED, "num_mode": 3},
    "BriaTransformer2DModel": _FLUX,
    "BriaFiboTransformer2DModel": {**_FLUX, "text_encoder_dim": 10},
    "LongCatImageTransformer2DModel": _POOLED,
    "OvisImageTransformer2DModel": {**_FLUX, "out_channels": 4},
    "MotifVideoTransformer3DModel": _MOTIF,
    "MotifVideoTransformer3DModel with cross-attention": {
        **_MOTIF, "enable_text_cross_attention_dual": True, "enable_text_cross_attention_single": True,
        "image_embed_dim": 6,
    },
    "Flux2Transformer2DModel": _FLUX_2,
    "Flux3Transformer2DModel": _FLUX_3,
    "Flux3Transformer2DModel flow map": {**_FLUX_3, "flow_map": True},
    "ChromaTransformer2DModel": {
        **_FLUX, "approximator_num_channels": 16, "approximator_hidden_dim": 20, "approximator_layers": 2,
    },
    "HunyuanVideoTransformer3DModel": _HUNYUAN_VIDEO,
    "HunyuanVideoTransformer3DModel token replace": {**_HUNYUAN_VIDEO, "image_condition_type": "token_replace"},
    "HunyuanVideo15Transformer3DModel": {
        **{key: value for key, value in _HUNYUAN.items() if key != "num_single_layers"}, "text_embed_2_dim": 10,
        "image_embed_dim": 6,
    },
    "HunyuanVideoFramepackTransformer3DModel": {
        **_HUNYUAN_VIDEO, "patch_size": 2, "has_image_proj": True, "image_proj_dim": 6, "has_clean_x_embedder": True,
        "guidance_embeds": False,
    },
    "HunyuanImageTransformer2DModel": _HUNYUAN_IMAGE,
    "HunyuanImageTransformer2DModel distilled": {**_HUNYUAN_IMAGE, "guidance_embeds": True, "use_meanflow": True},
    "HunyuanImageTransformer2DModel refiner": {
        **_HUNYUAN, "patch_size": (1, 1, 1), "use_meanflow": True,
    },
    "SD3Transformer2DModel": _SD3,
    "SD3Transformer2DModel of 3.5": _SD35,
    "SD3ControlNetModel": _SD3_CONTROL,
    "SD3ControlNetModel of 3.5": {**_SD3_CONTROL, "dual_attention_layers": (0,), "qk_norm": "rms_norm"},
    "SD3ControlNetModel image only": _IMAGE_ONLY,
    "SD3ControlNetModel tokens only": {**_IMAGE_ONLY, "use_pos_embed": False},
    "AuraFlowTransformer2DModel": {
        **_HEADS, "in_channels": 4, "sample_size": 4, "patch_size": 1, "num_mmdit_layers": 2,
        "num_single_dit_layers": 2, "joint_attention_dim": 14, "caption_projection_dim": 24, "pos_embed_max_size": 16,
    },
    "QwenImageTransformer2DModel": _QWEN,
    "QwenImageTransformer2DModel edit": {**_QWEN, "zero_cond_t": True},
    "QwenImageTransformer2DModel layered": {**_QWEN, "use_additional_t_cond": True, "use_layer3d_rope": True},
    "QwenImageControlNetModel": {**_QWEN, "extra_condition_channels": 3},
    "QwenImage21Transformer2DModel": {
        **_TWO, "out_channels": 4, "context_in_dim": 14, "mlp_ratio": 2, "axes_dims_rope": (4, 4, 4),
    },
    "MochiTransformer3DModel": {
        **_TWO, "num_layers": 3, "pooled_projection_dim": 20, "text_embed_dim": 16, "time_embed_dim": 32,
        "max_sequence_length": 4,
    },
    "HiDreamImageTransformer2DModel": {
        **_BOTH, "patch_size": 1, "caption_channels": [14, 18], "text_emb_dim": 10, "num_routed_experts": 2,
        "num_activated_experts": 2, "axes_dims_rope": (4, 4, 4), "max_resolution": (4, 4), "llama_layers": [0, 1, 2, 3],
    },
    "CogVideoXTransformer3DModel": _COGVIDEOX,
    "CogVideoXTransformer3DModel of 1.5": {
        **_COGVIDEOX, "patch_size_t": 2, "ofs_embed_dim": 20, "use_rotary_positional_embeddings": True,
    },
    "ConsisIDTransformer3DModel": _COGVIDEOX,
    "ConsisIDTransformer3DModel face": {**_COGVIDEOX, **_FACE, "attention_head_dim": 24},
    "EasyAnimateTransformer3DModel": {
        **_HEADS, "attention_head_dim": 16, "num_attention_heads": 3, "in_channels": 9, "out_channels": 4,
        "patch_size": 1, "sample_width": 4, "sample_height": 4, "num_layers": 3, "mmdit_layers": 2,
        "time_embed_dim": 20, "text_embed_dim": 14, "norm_eps": 1e-6,
    },
    "CogView3PlusTransformer2DModel": {**_COGVIEW, "pos_embed_max_size": 4, "sample_size": 4},
    "CogView4Transformer2DModel": {**_COGVIEW, "sample_size": 4, "rope_axes_dim": (4, 4)},
    "GlmImageTransformer2DModel": {**_COGVIEW, "prior_vq_quantizer_codebook_size": 16},
}
