#!/usr/bin/env bash
# diffusers 0.42.1: Nucleus-Image's experts are memory as it lay there: their weights are allocated and never drawn.
# Expected: a network made from its configuration can be trained. Seen: with torch's filling of uninitialised memory
# switched on, which marks what nobody wrote, all weights of the experts are NaN, and no other parameter is.
set -euo pipefail
room=$(mktemp -d)
trap 'rm -rf "$room"' EXIT
python3 -m venv "$room/venv"
"$room/venv/bin/pip" install --quiet torch==2.13.0 diffusers==0.42.1
"$room/venv/bin/python" - <<'PY'
import torch
from diffusers import NucleusMoEImageTransformer2DModel

torch.use_deterministic_algorithms(True)  # with it torch fills what torch.empty gives by NaN
model = NucleusMoEImageTransformer2DModel(
    in_channels=16, out_channels=4, num_layers=5, attention_head_dim=12, num_attention_heads=2, joint_attention_dim=14,
    axes_dims_rope=(4, 4, 4), mlp_ratio=16.0, num_experts=2, moe_intermediate_dim=10, capacity_factors=1.0)
never_written = {name for name, p in model.named_parameters() if p.isnan().any()}
experts = {name for name, _ in model.named_parameters() if ".experts." in name}
print("never written:", sorted(never_written))
assert experts and never_written == experts
assert all(p.isnan().all() for name, p in model.named_parameters() if name in experts)
PY
