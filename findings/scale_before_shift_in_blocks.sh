#!/usr/bin/env bash
# diffusers 0.42.1: the chunks of a block are scale, shift, gate in Krea 2 and Stable Audio 3, and gate, scale, shift in
# LongCat Audio. Their shapes are those of everyone else, so code that splits them as DiT's exchanges roles without an
# error.
# Expected: shift, scale, gate, as in DiT, SD3, Flux and Wan. Seen: these orders, by what each chunk does at the
# attention.
set -euo pipefail
room=$(mktemp -d)
trap 'rm -rf "$room"' EXIT
python3 -m venv "$room/venv"
"$room/venv/bin/pip" install --quiet torch==2.13.0 diffusers==0.42.1
"$room/venv/bin/python" - <<'PY'
import torch
from diffusers import Krea2Transformer2DModel, LongCatAudioDiTTransformer, StableAudio3DiTModel, WanTransformer3DModel
from torch import randn

torch.manual_seed(0)
two, t = dict(num_attention_heads=2, num_layers=1), torch.tensor([0.4])
krea = Krea2Transformer2DModel(
    in_channels=4, attention_head_dim=12, num_key_value_heads=1, intermediate_size=40, timestep_embed_dim=32,
    text_hidden_dim=14, num_text_layers=3, text_num_attention_heads=1, text_num_key_value_heads=1,
    axes_dims_rope=(4, 4, 4), text_intermediate_size=18, num_layerwise_text_blocks=1, num_refiner_text_blocks=1, **two)
stable = StableAudio3DiTModel(
    io_channels=4, embed_dim=24, depth=1, num_heads=2, cond_token_dim=14, global_cond_dim=10, local_add_cond_dim=5,
    timestep_features_dim=16, ff_mult=2.0, num_memory_tokens=3)
longcat = LongCatAudioDiTTransformer(dit_dim=24, dit_depth=1, dit_heads=2, dit_text_dim=14, latent_dim=4, ff_mult=2.0)
wan = WanTransformer3DModel(attention_head_dim=12, in_channels=4, out_channels=4, text_dim=14, ffn_dim=40, **two)
audio = dict(encoder_hidden_states=randn(1, 3, 14), timestep=t)
places = torch.arange(19)[:, None].expand(-1, 3)
CASES = {
    "Wan": (wan, wan.blocks[0], "scale_shift_table", "attn1", dict(hidden_states=randn(1, 4, 1, 8, 8), **audio)),
    "Krea 2": (krea, krea.transformer_blocks[0], "scale_shift_table", "attn", dict(
        hidden_states=randn(1, 16, 4), encoder_hidden_states=randn(1, 3, 3, 14), timestep=t, position_ids=places)),
    "Stable Audio 3": (stable, stable.transformer_blocks[0], "to_scale_shift_gate", "self_attn", dict(
        hidden_states=randn(1, 4, 12), global_hidden_states=randn(1, 10), **audio)),
    "LongCat Audio": (longcat, longcat.blocks[0], "adaln_scale_shift", "self_attn", dict(
        hidden_states=randn(1, 6, 4), encoder_attention_mask=torch.ones(1, 3, dtype=torch.bool), **audio)),
}


@torch.no_grad()
def role(model, block, table, attention, inputs, chunk):
    """What adding one to a chunk does to the attention's input: nothing, the same to every token, or another thing."""
    entered = []
    hook = getattr(block, attention).register_forward_pre_hook(lambda _, args: entered.append(args[0].clone()))
    rows = getattr(block, table).view(6, -1)
    for change in (0, 1):
        rows[chunk] += change
        model.eval()(**inputs)
    hook.remove()
    moved = entered[1] - entered[0]
    return "gate" if not moved.any() else "shift" if moved.std(1).max() < 1e-4 else "scale"


seen = {name: [role(*case, chunk) for chunk in range(3)] for name, case in CASES.items()}
print(seen)
assert seen["Wan"] == ["shift", "scale", "gate"] and seen["LongCat Audio"] == ["gate", "scale", "shift"]
assert seen["Krea 2"] == seen["Stable Audio 3"] == ["scale", "shift", "gate"]
PY
