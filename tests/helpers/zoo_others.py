"""Small configurations of diffusers' networks: those of DiT's and Lumina's lineage, of none, and without modulation.

A variant of a class stands after a space. Widths of tokens, condition, text and MLP differ where the class lets them.
"""

from typing import Any

# fmt: off
_HEADS = {"num_attention_heads": 2, "attention_head_dim": 24}
_PATCHED = {**_HEADS, "in_channels": 4, "num_layers": 2, "sample_size": 4, "patch_size": 1}
_SPATIAL = {**_HEADS, "in_channels": 8, "norm_num_groups": 4}
_BY_LABEL = {"norm_type": "ada_norm_zero", "norm_elementwise_affine": False}
_HUNYUAN_DIT = {
    **_HEADS, "in_channels": 4, "patch_size": 1, "sample_size": 4, "hidden_size": 48, "cross_attention_dim": 18,
    "cross_attention_dim_t5": 16, "pooled_projection_dim": 8, "text_len": 3, "text_len_t5": 2,
}
_LUMINA_2 = {
    "sample_size": 8, "in_channels": 4, "hidden_size": 24, "num_layers": 2, "num_refiner_layers": 2, "multiple_of": 8,
    "num_attention_heads": 2, "num_kv_heads": 1, "cap_feat_dim": 10, "axes_dim_rope": (4, 4, 4), "axes_lens": (16,) * 3,
}
_FIBO_2 = {
    "in_channels": 4, "patch_size": 1, "dim": 48, "n_layers": 2, "n_refiner_layers": 1, "n_heads": 2,
    "cap_feat_dim": 14, "injection_layer_ids": (1,), "perceiver_num_layers": 1, "min_num_gist_tokens": 4,
    "max_num_gist_tokens": 4, "gist_step": 2, "gist_min_text_len": 2, "gist_max_text_len": 8, "axes_dims": (8, 8, 8),
    "axes_lens": (16, 16, 16),
}
_Z_IMAGE = {
    "in_channels": 4, "dim": 24, "n_layers": 2, "n_refiner_layers": 2, "n_heads": 2, "n_kv_heads": 2,
    "cap_feat_dim": 14, "axes_dims": [4, 4, 4], "axes_lens": [128, 16, 16],
}
_WIDE_HEADS = {"n_heads": 2, "n_kv_heads": 2, "axes_dims": [44, 44, 44]}
_Z_IMAGE_CONTROL = {
    "control_layers_places": [0, 1], "control_refiner_layers_places": [0, 1], "control_in_dim": 5, "dim": 24,
    "n_refiner_layers": 2, "n_heads": 2, "n_kv_heads": 2,
}
_PRX = {
    "in_channels": 4, "context_in_dim": 14, "hidden_size": 24, "mlp_ratio": 2.0, "num_heads": 2, "depth": 2,
    "axes_dim": [6, 6],
}
_KANDINSKY_5 = {
    "in_visual_dim": 4, "out_visual_dim": 4, "in_text_dim": 14, "in_text_dim2": 10, "time_dim": 20, "model_dim": 24,
    "ff_dim": 40, "num_text_blocks": 2, "num_visual_blocks": 2, "axes_dims": (4, 4, 4),
}
_KANDINSKY_6 = {
    **_KANDINSKY_5, "in_audio_dim": 6, "out_audio_dim": 6, "model_dim_a": 36, "time_dim_a": 28, "ff_dim_a": 44,
    "text_token_padding": True, "ca_rope": True, "cross_gates": True, "fix_modulation": True,
}
_MINIMAX_H3 = {
    "num_attention_heads": 2, "attention_head_dim": 12, "hidden_size": 20, "num_layers": 2, "num_refiner_layers": 1,
    "ffn_dim": 40, "in_channels": 4, "audio_in_channels": 6, "text_dim": 14, "freq_dim": 32,
    "time_embed_hidden_dim": 18, "time_embed_dim": 10, "rope_freq_dim": 2,
}
_COSMOS = {
    **_HEADS, "mlp_ratio": 2.0, "text_embed_dim": 14, "adaln_lora_dim": 20, "max_size": (2, 4, 4),
    "patch_size": (1, 1, 1),
}
_OMNIGEN = {
    "in_channels": 4, "hidden_size": 24, "num_attention_heads": 2, "num_key_value_heads": 2, "intermediate_size": 40,
    "num_layers": 2, "pad_token_id": 0, "vocab_size": 30, "max_position_embeddings": 64,
    "original_max_position_embeddings": 64, "rope_scaling": {"long_factor": [1.0] * 6, "short_factor": [1.0] * 6},
    "pos_embed_max_size": 8, "time_step_dim": 32,
}
_PROTEINA = {
    "nlayers": 2, "token_dim": 24, "nheads": 2, "dim_cond": 20, "pair_repr_dim": 12, "latent_dim": 4,
    "token_type_emb_dim": 6, "cath_emb_dim": 4, "t_emb_dim": 16, "seq_sep_dim": 8, "xt_pair_dist_dim": 5,
    "tri_mult_c": 8, "num_sequence_classes": 9, "feats_seq": ("xt_bb_ca", "xt_local_latents", "token_type"),
    "feats_cond_seq": ("time_emb_bb_ca", "time_emb_local_latents"), "feats_pair_repr": ("xt_bb_ca_pair_dists",),
}

OTHERS: dict[str, dict[str, Any]] = {
    "DiTTransformer2DModel": _PATCHED,
    "Transformer2DModel ada_norm_zero": {**_PATCHED, **_BY_LABEL, "num_embeds_ada_norm": 1000, "attention_bias": True},
    "Transformer2DModel ada_norm": {
        **_HEADS, "sample_size": 4, "num_vector_embeds": 9, "num_layers": 2, "cross_attention_dim": 14,
        "norm_type": "ada_norm", "num_embeds_ada_norm": 10,
    },
    "Transformer2DModel layer_norm": {**_SPATIAL, "num_layers": 2, "cross_attention_dim": 14},
    "DreamLiteTransformer2DModel": {**_SPATIAL, "num_layers": 2, "cross_attention_dim": 14, "num_kv_heads": 2},
    "DreamLiteTransformer2DModel ada_norm_zero": {
        **_SPATIAL, **_BY_LABEL, "num_layers": 2, "num_kv_heads": 2, "num_embeds_ada_norm": 10,
    },
    "DualTransformer2DModel": {**_SPATIAL, "cross_attention_dim": 14},
    "DualTransformer2DModel ada_norm": {**_SPATIAL, "cross_attention_dim": 14, "num_embeds_ada_norm": 10},
    "HunyuanDiT2DModel": {**_HUNYUAN_DIT, "num_layers": 6},
    "HunyuanDiT2DControlNetModel": {**_HUNYUAN_DIT, "transformer_num_layers": 6},
    "PRXTransformer2DModel": _PRX,
    "PRXTransformer2DModel resolution": {**_PRX, "resolution_embeds": True, "bottleneck_size": 8},
    "ErnieImageTransformer2DModel": {
        "hidden_size": 48, "num_attention_heads": 2, "num_layers": 2, "ffn_hidden_size": 64, "in_channels": 4,
        "out_channels": 4, "patch_size": 1, "text_in_dim": 14, "rope_axes_dim": (8, 8, 8),
    },
    "LuminaNextDiT2DModel": {
        "sample_size": 4, "patch_size": 1, "in_channels": 4, "hidden_size": 48, "num_layers": 2,
        "num_attention_heads": 2, "num_kv_heads": 1, "multiple_of": 8, "cross_attention_dim": 14,
    },
    "Lumina2Transformer2DModel": _LUMINA_2,
    "Lumina2Transformer2DModel wide": {
        **_LUMINA_2, "hidden_size": 1056, "num_layers": 1, "num_refiner_layers": 1, "num_attention_heads": 8,
        "num_kv_heads": 2, "axes_dim_rope": (44, 44, 44),
    },
    "BriaFibo2Transformer2DModel": _FIBO_2,
    "BriaFibo2Transformer2DModel wide": {**_FIBO_2, "dim": 288, "axes_dims": (48, 48, 48)},
    "ZImageTransformer2DModel": _Z_IMAGE,
    "ZImageTransformer2DModel wide": {**_Z_IMAGE, **_WIDE_HEADS, "dim": 264, "n_layers": 1, "n_refiner_layers": 1},
    "ZImageTransformer2DModel patches": {**_Z_IMAGE, "all_patch_size": (2, 4), "all_f_patch_size": (1, 1)},
    "ZImageTransformer2DModel omni": {**_Z_IMAGE, "siglip_feat_dim": 9},
    "ZImageControlNetModel": _Z_IMAGE_CONTROL,
    "ZImageControlNetModel shared refiner": {**_Z_IMAGE_CONTROL, "add_control_noise_refiner": "control_layers"},
    "ZImageControlNetModel own refiner": {**_Z_IMAGE_CONTROL, "add_control_noise_refiner": "control_noise_refiner"},
    "Ideogram4Transformer2DModel": {
        "in_channels": 4, "num_layers": 2, "attention_head_dim": 12, "num_attention_heads": 2, "intermediate_size": 40,
        "adaln_dim": 20, "llm_features_dim": 14, "mrope_section": (2, 2, 2),
    },
    "NucleusMoEImageTransformer2DModel": {
        "in_channels": 16, "out_channels": 4, "num_layers": 5, "attention_head_dim": 12, "num_attention_heads": 2,
        "joint_attention_dim": 14, "axes_dims_rope": (4, 4, 4), "mlp_ratio": 16.0, "num_experts": 2,
        "moe_intermediate_dim": 10, "capacity_factors": 1.0,
    },
    "Kandinsky5Transformer3DModel": _KANDINSKY_5,
    "Kandinsky6Transformer3DModel": _KANDINSKY_6,
    "Kandinsky6Transformer3DModel own gates": {
        **_KANDINSKY_6, "cross_gates": False, "fix_modulation": False, "time_dim_a": 20,
    },
    "Kandinsky6Transformer3DModel one width": {
        **_KANDINSKY_6, "model_dim_a": None, "time_dim_a": None, "ff_dim_a": None,
    },
    "Kandinsky6SRTransformer3DModel": {
        "in_visual_dim": 4, "out_visual_dim": 8, "time_dim": 20, "model_dim": 32, "ff_dim": 40, "num_visual_blocks": 2,
        "axes_dims": (4, 6, 6), "nabla_window": (3, 3, 3),
    },
    "MiniMaxH3Transformer3DModel": _MINIMAX_H3,
    "MiniMaxH3Transformer3DModel square": {**_MINIMAX_H3, "time_embed_dim": 20},
    "CosmosTransformer3DModel": {
        **_COSMOS, "in_channels": 4, "out_channels": 4, "num_layers": 2, "concat_padding_mask": False,
    },
    "CosmosControlNetModel": {
        **_COSMOS, "n_controlnet_blocks": 2, "in_channels": 6, "latent_channels": 6, "model_channels": 48,
    },
    "OmniGenTransformer2DModel": _OMNIGEN,
    "RFD4ProteinaTransformer": _PROTEINA,
    "T5FilmDecoder": {
        "input_dims": 6, "targets_length": 16, "d_model": 48, "num_layers": 2, "num_heads": 2, "d_kv": 24, "d_ff": 64,
        "dropout_rate": 0.0,
    },
    "UVit2DModel": {
        "hidden_size": 48, "cond_embed_dim": 10, "micro_cond_encode_dim": 4, "micro_cond_embed_dim": 20,
        "encoder_hidden_size": 14, "vocab_size": 20, "codebook_size": 16, "in_channels": 24, "block_out_channels": 24,
        "num_res_blocks": 1, "block_num_heads": 2, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 32, "sample_size": 4,
    },
    "Cosmos3OmniTransformer": {
        "head_dim": 24, "hidden_size": 48, "intermediate_size": 64, "num_attention_heads": 2, "num_key_value_heads": 1,
        "num_hidden_layers": 2, "latent_channel": 4, "latent_patch_size": 1, "patch_latent_dim": 4, "vocab_size": 16,
        "rope_axes_dim": (4, 4, 4), "dtype": "float32",
    },
    "PriorTransformer": {**_HEADS, "num_layers": 2, "embedding_dim": 14, "num_embeddings": 3},
    "TransformerTemporalModel": {
        "num_attention_heads": 2, "attention_head_dim": 8, "in_channels": 8, "num_layers": 1, "norm_num_groups": 4,
    },
    "TransformerSpatioTemporalModel": {
        "num_attention_heads": 2, "attention_head_dim": 32, "in_channels": 64, "num_layers": 1,
        "cross_attention_dim": 14,
    },
}
# fmt: on
