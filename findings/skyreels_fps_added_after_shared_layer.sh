#!/usr/bin/env bash
# diffusers 0.42.1: SkyReels-V2 with frame rates (inject_sample_info) adds a second projection to all six chunks, after
# the shared layer.
# Expected: as in Wan, the shared layer and the tables at zero close every gate. Seen: attention and MLP are still
# added, by gates that come of the frame rate.
set -euo pipefail
room=$(mktemp -d)
trap 'rm -rf "$room"' EXIT
python3 -m venv "$room/venv"
"$room/venv/bin/pip" install --quiet torch==2.13.0 diffusers==0.42.1
"$room/venv/bin/python" - <<'PY'
import torch
from diffusers import SkyReelsV2Transformer3DModel, WanTransformer3DModel

torch.manual_seed(0)
size = dict(num_attention_heads=2, num_layers=1, attention_head_dim=12, in_channels=4, out_channels=4, text_dim=14,
            freq_dim=32, ffn_dim=40, rope_max_seq_len=16)
inputs = dict(timestep=torch.tensor([500]), encoder_hidden_states=torch.randn(1, 3, 14))


@torch.no_grad()
def movement(model, **more):
    """How far a block moves its tokens with its modulation, and its ungated text attention, at zero."""
    block = model.eval().blocks[0]
    shared, text_attention = model.condition_embedder.time_proj, block.attn2.to_out
    for parameter in (*shared.parameters(), *text_attention.parameters(), block.scale_shift_table):
        parameter.zero_()
    moved = []
    block.register_forward_hook(lambda _, args, out: moved.append((out - args[0]).abs().max().item()))
    model(torch.randn(1, 4, 2, 8, 8), **inputs, **more)
    return moved[0]


seen = {
    "Wan": movement(WanTransformer3DModel(**size)),
    "SkyReels-V2": movement(SkyReelsV2Transformer3DModel(**size)),
    "SkyReels-V2 at fps 0": movement(SkyReelsV2Transformer3DModel(**size, inject_sample_info=True), fps=[0]),
    "SkyReels-V2 at fps 1": movement(SkyReelsV2Transformer3DModel(**size, inject_sample_info=True), fps=[1]),
}
print("a block with zeroed modulation moves its tokens by", seen)
assert seen["Wan"] == seen["SkyReels-V2"] == 0
assert seen["SkyReels-V2 at fps 0"] > 1e-3 and seen["SkyReels-V2 at fps 1"] > 1e-3
PY
