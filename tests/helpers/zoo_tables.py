"""Small configurations of diffusers' networks whose blocks share one modulation, and of those of sound.

A variant of a class stands after a space. Widths of tokens, condition and text differ wherever the class lets them.
"""

from typing import Any

# fmt: off
_TWO = {"num_attention_heads": 2, "num_layers": 2}
_SQUARE = {**_TWO, "attention_head_dim": 12, "in_channels": 4, "sample_size": 4, "patch_size": 1}
_PIXART = {**_SQUARE, "cross_attention_dim": 24, "caption_channels": 14}
_SINGLE = {"norm_type": "ada_norm_single", "num_embeds_ada_norm": 1000, "norm_elementwise_affine": False}
_SANA = {
    **_SQUARE, "out_channels": 4, "num_cross_attention_heads": 2, "cross_attention_head_dim": 12,
    "cross_attention_dim": 24, "caption_channels": 14, "mlp_ratio": 2.0,
}
_SANA_VIDEO = {**_SANA, "patch_size": (1, 2, 2), "sample_size": 8}
_SANA_WM = {
    **_TWO, "in_channels": 4, "hidden_size": 24, "softmax_every_n": 2, "linear_head_dim": 12, "caption_channels": 14,
    "mlp_ratio": 2.0, "chunk_plucker_channels": 6, "chunk_plucker_post_attn_blocks": 2,
}
_LTX = {
    **_TWO, "attention_head_dim": 12, "in_channels": 4, "out_channels": 4, "cross_attention_dim": 24,
    "caption_channels": 14,
}
_LTX2 = {
    **_TWO, "attention_head_dim": 20, "in_channels": 4, "out_channels": 4, "cross_attention_dim": 40,
    "audio_num_attention_heads": 2, "audio_attention_head_dim": 8, "audio_in_channels": 6, "audio_out_channels": 6,
    "audio_cross_attention_dim": 16, "caption_channels": 14, "rope_double_precision": False,
}
_MODULATED_TEXT = {"cross_attn_mod": True, "audio_cross_attn_mod": True}
_GATED_HEADS = {"gated_attn": True, "audio_gated_attn": True}
_WAN = {
    **_TWO, "attention_head_dim": 12, "in_channels": 4, "out_channels": 4, "text_dim": 14, "freq_dim": 32,
    "ffn_dim": 40,
}
_SHORT = {**_WAN, "rope_max_seq_len": 16}
_ANIMATE = {
    **_SHORT, "in_channels": 12, "latent_channels": 4, "image_dim": 10, "added_kv_proj_dim": 24,
    "motion_encoder_channel_sizes": {"4": 4, "8": 4, "16": 4}, "motion_encoder_size": 16, "motion_style_dim": 8,
    "motion_dim": 3, "motion_encoder_dim": 12, "face_encoder_hidden_dim": 12, "face_encoder_num_heads": 2,
    "inject_face_latents_blocks": 2,
}
_ANIMATE_2 = {
    "text_len": 4, "in_dim": 8, "dim": 24, "ffn_dim": 40, "freq_dim": 32, "text_dim": 14, "out_dim": 4, "num_heads": 2,
    "num_layers": 2,
}
_JOY = {
    **_TWO, "in_channels": 4, "hidden_size": 24, "text_dim": 14, "rope_dim_list": [4, 4, 4], "mlp_width_ratio": 2.0,
}
_KREA = {
    **_TWO, "in_channels": 4, "attention_head_dim": 12, "num_key_value_heads": 1, "intermediate_size": 40,
    "timestep_embed_dim": 32, "text_hidden_dim": 14, "num_text_layers": 3, "text_num_attention_heads": 1,
    "text_num_key_value_heads": 1, "text_intermediate_size": 18, "num_layerwise_text_blocks": 1,
    "num_refiner_text_blocks": 1, "axes_dims_rope": (4, 4, 4),
}
_ACE = {
    "hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 24, "in_channels": 12, "audio_acoustic_hidden_dim": 4, "patch_size": 2,
    "sliding_window": 4, "encoder_hidden_size": 14,
}
_LONGCAT = {"dit_dim": 24, "dit_depth": 2, "dit_heads": 2, "dit_text_dim": 14, "latent_dim": 4, "ff_mult": 2.0}
_STABLE_3 = {
    "io_channels": 4, "embed_dim": 24, "depth": 2, "num_heads": 2, "cond_token_dim": 14, "global_cond_dim": 10,
    "local_add_cond_dim": 5, "timestep_features_dim": 16, "ff_mult": 2.0, "num_memory_tokens": 3,
}
_STABLE = {
    **_TWO, "sample_size": 8, "in_channels": 4, "out_channels": 4, "attention_head_dim": 16,
    "num_key_value_attention_heads": 1, "cross_attention_dim": 16, "time_proj_dim": 8, "global_states_input_dim": 10,
    "cross_attention_input_dim": 14,
}
_MUSIC = {
    **_TWO, "in_channels": 4, "condition_dim": 14, "attention_head_dim": 12, "ff_inner_dim": 40, "rotary_dim": 4,
    "fourier_embedding_dim": 16,
}
_DEPTH = {
    **_TWO, "hidden_size": 48, "intermediate_size": 64, "audio_vocab_size": 16, "num_codebooks": 4,
}

TABLES: dict[str, dict[str, Any]] = {
    "PixArtTransformer2DModel": {**_PIXART, "out_channels": 8},
    "PixArtTransformer2DModel sizes": {**_PIXART, "use_additional_conditions": True},
    "Transformer2DModel single": {**_PIXART, **_SINGLE},
    "AllegroTransformer3DModel": {
        **_TWO, "attention_head_dim": 12, "in_channels": 4, "out_channels": 4, "patch_size": 1, "sample_height": 4,
        "sample_width": 4, "sample_frames": 2, "cross_attention_dim": 24, "caption_channels": 14,
    },
    "LatteTransformer3DModel": {
        **_PIXART, **_SINGLE, "video_length": 2, "norm_eps": 1e-6, "activation_fn": "gelu-approximate",
    },
    "SanaTransformer2DModel": _SANA,
    "SanaTransformer2DModel guided": {
        **_SANA, "guidance_embeds": True, "qk_norm": "rms_norm_across_heads",
    },
    "SanaControlNetModel": _SANA,
    "SanaVideoTransformer3DModel": _SANA_VIDEO,
    "SanaVideoTransformer3DModel guided": {**_SANA_VIDEO, "guidance_embeds": True},
    "SanaWMTransformer3DModel": _SANA_WM,
    "SanaWMLTX2RefinerTransformer3DModel": _LTX2,
    "LTXVideoTransformer3DModel": _LTX,
    "LTX2VideoTransformer3DModel": _LTX2,
    "LTX2VideoTransformer3DModel equal widths": {
        **_LTX2, "audio_attention_head_dim": 20, "audio_cross_attention_dim": 40,
    },
    "LTX2VideoTransformer3DModel 2.3": {**_LTX2, **_MODULATED_TEXT, **_GATED_HEADS},
    "WanTransformer3DModel": _SHORT,
    "WanTransformer3DModel images": {**_SHORT, "image_dim": 10, "added_kv_proj_dim": 24},
    "WanAnimateTransformer3DModel": _ANIMATE,
    "WanAnimate2Transformer3DModel": _ANIMATE_2,
    "WanVACETransformer3DModel": {
        **_SHORT, "num_layers": 3, "vace_layers": [0, 2], "vace_in_channels": 6,
    },
    "SkyReelsV2Transformer3DModel": _SHORT,
    "SkyReelsV2Transformer3DModel fps": {**_SHORT, "inject_sample_info": True},
    "ChronoEditTransformer3DModel": _SHORT,
    "AnyFlowTransformer3DModel": _WAN,
    "AnyFlowFARTransformer3DModel": {**_WAN, "full_chunk_limit": 2, "chunk_partition": (1, 1)},
    "HeliosTransformer3DModel": {**_WAN, "rope_dim": (4, 4, 4)},
    "JoyImageEditTransformer3DModel": _JOY,
    "JoyImageEditPlusTransformer3DModel": _JOY,
    "Krea2Transformer2DModel": _KREA,
    "AceStepTransformer1DModel": _ACE,
    "LongCatAudioDiTTransformer": _LONGCAT,
    "LongCatAudioDiTTransformer local": {**_LONGCAT, "adaln_type": "local"},
    "LongCatAudioDiTTransformer no bias": {**_LONGCAT, "bias": False},
    "StableAudio3DiTModel": _STABLE_3,
    "StableAudioDiTModel": _STABLE,
    "MiniMaxMusic3Transformer1DModel": _MUSIC,
    "MiniMaxMusic3RVQDepthDecoder": _DEPTH,
}
# fmt: on
