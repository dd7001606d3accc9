#!/usr/bin/env bash
# diffusers 0.42.1: AdaLayerNormZero and AdaLayerNormZeroSingle, which DiT, SD3 and Flux are built of, zero nothing, so
# no block of a fresh network is the identity. Kandinsky 5 does start at zero, Kandinsky 6 does not, and PRX only in its
# blocks, under a last layer that torch starts.
# Expected: a class named after adaLN-Zero starts at zero, and a network in all its layers or in none. Seen: neither.
set -euo pipefail
room=$(mktemp -d)
trap 'rm -rf "$room"' EXIT
python3 -m venv "$room/venv"
"$room/venv/bin/pip" install --quiet torch==2.13.0 diffusers==0.42.1
"$room/venv/bin/python" - <<'PY'
import torch
from diffusers import (
    DiTTransformer2DModel,
    Kandinsky5Transformer3DModel,
    Kandinsky6Transformer3DModel,
    PRXTransformer2DModel,
)
from diffusers.models.normalization import AdaLayerNormZero, AdaLayerNormZeroSingle

torch.manual_seed(0)
five = dict(in_visual_dim=4, out_visual_dim=4, in_text_dim=14, in_text_dim2=10, time_dim=20, model_dim=24, ff_dim=40,
            num_text_blocks=1, num_visual_blocks=1, axes_dims=(4, 4, 4))
sound = dict(in_audio_dim=6, out_audio_dim=6, model_dim_a=36, time_dim_a=28, ff_dim_a=44, cross_gates=True)
prx = PRXTransformer2DModel(in_channels=4, context_in_dim=14, hidden_size=24, num_heads=2, depth=2, axes_dim=[6, 6])


def zeros(module, part):
    """Whether each tensor of the modulation starts at exactly zero."""
    return {not p.any().item() for name, p in module.named_parameters() if part in name}


seen = {
    "AdaLayerNormZero": zeros(AdaLayerNormZero(24), "linear"),
    "AdaLayerNormZeroSingle": zeros(AdaLayerNormZeroSingle(24), "linear"),
    "Kandinsky 5": zeros(Kandinsky5Transformer3DModel(**five), "modulation"),
    "Kandinsky 6": zeros(Kandinsky6Transformer3DModel(**five, **sound), "modulation"),
    "PRX, blocks": zeros(prx.blocks, "modulation"),
    "PRX, last layer": zeros(prx.final_layer, ""),
}
dit = DiTTransformer2DModel(num_attention_heads=2, attention_head_dim=12, in_channels=4, num_layers=1, sample_size=4,
                            patch_size=1)
tokens, block = torch.randn(1, 16, 24), dit.eval().transformer_blocks[0]
change = (block(tokens, timestep=torch.tensor([500]), class_labels=torch.tensor([3])) - tokens).abs().max().item()
print(f"modulation is zero: {seen}; a fresh DiT block moves its tokens by {change:.2f}")
assert seen.pop("Kandinsky 5") == seen.pop("PRX, blocks") == {True}
assert all(value == {False} for value in seen.values()) and change > 0.05
PY
