#!/usr/bin/env bash
# diffusers 0.42.1: Flux.3 and Qwen-Image 2.1 modulate their text tokens by the embedding of t = 0, whatever t is.
# Expected: as in Flux, SD3 and Qwen-Image, t modulates both streams. Seen: the text tokens that enter the first
# attention are the same at all times, where those of the image, and in Qwen-Image those of the text, are not.
set -euo pipefail
room=$(mktemp -d)
trap 'rm -rf "$room"' EXIT
python3 -m venv "$room/venv"
"$room/venv/bin/pip" install --quiet torch==2.13.0 diffusers==0.42.1
"$room/venv/bin/python" - <<'PY'
import torch
from diffusers import Flux3Transformer2DModel, QwenImage21Transformer2DModel, QwenImageTransformer2DModel

torch.manual_seed(0)
two = dict(num_attention_heads=2, attention_head_dim=12, in_channels=4, num_layers=1)
flux = Flux3Transformer2DModel(num_single_layers=1, cond_in_channels=6, joint_attention_dim=14, timestep_channels=16,
                               mlp_ratio=2.0, axes_dims_rope=(2, 2, 4, 4), **two)
new = QwenImage21Transformer2DModel(out_channels=4, context_in_dim=14, mlp_ratio=2, axes_dims_rope=(4, 4, 4), **two)
old = QwenImageTransformer2DModel(out_channels=4, joint_attention_dim=14, axes_dims_rope=(4, 4, 4), **two)
image, text = dict(hidden_states=torch.randn(1, 16, 4)), dict(encoder_hidden_states=torch.randn(1, 3, 14))
ids = dict(img_ids=torch.zeros(16, 4).long(), txt_ids=torch.zeros(3, 4).long())
slots = dict(img_shapes=[[(1, 4, 4)]], img_mask=torch.arange(7)[None] >= 3)


@torch.no_grad()
def change_with_time(model, attention, inputs, stream=slice(None), name="hidden_states"):
    """The largest change, from t = 0.2 to 0.9, of a stream's tokens that enter an attention."""
    seen = []
    attention.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append((args[0] if args else kwargs[name])[:, stream].clone()), with_kwargs=True
    )
    for t in (0.2, 0.9):
        model.eval()(timestep=torch.tensor([t]), **image, **text, **inputs)
    return (seen[1] - seen[0]).abs().max().item()


attention = new.transformer_blocks[0].attn
old_inputs, old_attention = dict(img_shapes=[[(1, 4, 4)]]), old.transformer_blocks[0].attn
seen = {
    "Qwen-Image, text": change_with_time(old, old_attention, old_inputs, name="encoder_hidden_states"),
    "Qwen-Image 2.1, image": change_with_time(new, attention, slots, slice(3, None)),
    "Qwen-Image 2.1, text": change_with_time(new, attention, slots, slice(3)),
    "Flux.3, image": change_with_time(flux, flux.mode_blocks["image"][0].attn, ids),
    "Flux.3, text": change_with_time(flux, flux.txt_mode_blocks[0].attn, ids),
}
print("change between t = 0.2 and t = 0.9:", seen)
assert seen.pop("Qwen-Image 2.1, text") == seen.pop("Flux.3, text") == 0 and min(seen.values()) > 1e-3
PY
