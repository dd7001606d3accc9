#!/usr/bin/env bash
# diffusers 0.42.1: Stable Audio 3 gates a branch by sigmoid(1 - g): more gate lets less through, and zeros leave it
# open.
# Expected: zeroed modulation closes the branch. Seen: 0.731 of the attention is added at g = 0, 0.5 at 1, 0.0003 at 9.
set -euo pipefail
room=$(mktemp -d)
trap 'rm -rf "$room"' EXIT
python3 -m venv "$room/venv"
"$room/venv/bin/pip" install --quiet torch==2.13.0 diffusers==0.42.1
"$room/venv/bin/python" - <<'PY'
import torch
from diffusers import StableAudio3DiTModel

torch.manual_seed(0)
model = StableAudio3DiTModel(
    io_channels=4, embed_dim=24, depth=1, num_heads=2, cond_token_dim=14, global_cond_dim=10, local_add_cond_dim=5,
    timestep_features_dim=16, ff_mult=2.0, num_memory_tokens=3).eval()
block, seen = model.transformer_blocks[0], {}
stream, branch = [], []  # the stream before and after the attention's branch
block.pre_norm.register_forward_pre_hook(lambda _, args: stream.append(args[0]))
block.self_attn.register_forward_hook(lambda _, args, out: branch.append(out))
block.cross_attend_norm.register_forward_pre_hook(lambda _, args: stream.append(args[0]))
for parameter in model.global_cond_embedder.parameters():
    torch.nn.init.zeros_(parameter)
inputs = dict(hidden_states=torch.randn(1, 4, 12), encoder_hidden_states=torch.randn(1, 3, 14),
              global_hidden_states=torch.randn(1, 10), timestep=torch.tensor([0.4]))
with torch.no_grad():
    for gate in (0.0, 1.0, 9.0):
        block.to_scale_shift_gate.zero_().view(6, -1)[2] = gate
        model(**inputs)
        seen[gate] = ((stream[-1] - stream[-2]) / branch[-1]).median().item()
print("share of the attention that is added, by gate:", {gate: round(share, 4) for gate, share in seen.items()})
assert abs(seen[0.0] - 0.7311) < 1e-3 and abs(seen[1.0] - 0.5) < 1e-3 and seen[9.0] < 1e-3
PY
