"""The diffusion transformers of diffusers, each built from its config with few layers and small widths."""

import torch
from diffusers import (
    AuraFlowTransformer2DModel,
    CogVideoXTransformer3DModel,
    DiTTransformer2DModel,
    FluxTransformer2DModel,
    HunyuanDiT2DModel,
    Lumina2Transformer2DModel,
    PixArtTransformer2DModel,
    SanaTransformer2DModel,
    SD3Transformer2DModel,
)

# fmt: off
HEADS = {"num_attention_heads": 2, "attention_head_dim": 8}
_SD3 = {
    **HEADS, "sample_size": 8, "in_channels": 4, "out_channels": 4, "num_layers": 3, "pos_embed_max_size": 8,
    "joint_attention_dim": 12, "caption_projection_dim": 16, "pooled_projection_dim": 10,
}
_FLUX = {**HEADS, "in_channels": 4, "joint_attention_dim": 12, "pooled_projection_dim": 10, "axes_dims_rope": (2, 2, 4)}
_PIXART = {"in_channels": 4, "num_layers": 2, "caption_channels": 12}
_SANA = {
    **HEADS, "in_channels": 4, "out_channels": 4, "num_layers": 2, "sample_size": 8, "patch_size": 2,
    "num_cross_attention_heads": 2, "cross_attention_head_dim": 8, "cross_attention_dim": 16, "caption_channels": 12,
}
_HUNYUAN = {
    **HEADS, "in_channels": 4, "patch_size": 2, "sample_size": 8, "hidden_size": 16, "num_layers": 4, "text_len": 4,
    "text_len_t5": 4, "cross_attention_dim": 12, "cross_attention_dim_t5": 16, "pooled_projection_dim": 8,
}
_AURAFLOW = {
    **HEADS, "sample_size": 8, "num_mmdit_layers": 2, "num_single_dit_layers": 2, "pos_embed_max_size": 64,
    "joint_attention_dim": 12, "caption_projection_dim": 16,
}
_COGVIDEOX = {
    **HEADS, "in_channels": 4, "out_channels": 4, "time_embed_dim": 12, "text_embed_dim": 10, "num_layers": 2,
    "sample_width": 4, "sample_height": 4, "sample_frames": 5, "max_text_seq_length": 4,
}
_LUMINA2 = {
    "sample_size": 8, "in_channels": 4, "hidden_size": 24, "num_layers": 2, "num_refiner_layers": 2, "multiple_of": 8,
    "num_attention_heads": 2, "num_kv_heads": 1, "cap_feat_dim": 10, "axes_dim_rope": (4, 4, 4), "axes_lens": (16,) * 3,
}
_SIZES = {"num_attention_heads": 2, "attention_head_dim": 12, "cross_attention_dim": 24, "sample_size": 128}
_GUIDED = {"guidance_embeds": True}

CONFIGS = {
    "DiT": (DiTTransformer2DModel, {**HEADS, "in_channels": 4, "num_layers": 2, "sample_size": 8}),
    "SD3": (SD3Transformer2DModel, _SD3),
    "SD3.5": (SD3Transformer2DModel, {**_SD3, "dual_attention_layers": (0, 1), "qk_norm": "rms_norm"}),
    "Flux": (FluxTransformer2DModel, {**_FLUX, "num_layers": 2, "num_single_layers": 11}),
    "Flux guided": (FluxTransformer2DModel, {**_FLUX, "num_layers": 1, "num_single_layers": 1, **_GUIDED}),
    "PixArt-alpha": (PixArtTransformer2DModel, {**_PIXART, **_SIZES}),
    "PixArt-sigma": (PixArtTransformer2DModel, {**_PIXART, **HEADS, "cross_attention_dim": 16, "sample_size": 8}),
    "HunyuanDiT": (HunyuanDiT2DModel, _HUNYUAN),
    "AuraFlow": (AuraFlowTransformer2DModel, _AURAFLOW),
    "CogVideoX": (CogVideoXTransformer3DModel, _COGVIDEOX),
    "Lumina 2": (Lumina2Transformer2DModel, _LUMINA2),
    "Sana": (SanaTransformer2DModel, _SANA),
    "Sana guided": (SanaTransformer2DModel, {**_SANA, **_GUIDED}),
}
# fmt: on


def foreign(name: str) -> torch.nn.Module:
    """A fresh network as diffusers starts it, the same on every call."""
    network, config = CONFIGS[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return network(**config).eval()
