#!/usr/bin/env bash
# diffusers 0.42.1: shards of a variant name it before their numbers, but their index names it after `index`:
# `diffusion_pytorch_model.safetensors.index.fp16.json`.
# Expected: the variant stands at one place in both, and `*.safetensors.index.json` finds the index of any sharded
# folder. Seen: that pattern finds nothing, and a reader that then takes the one file it knows has a part of the
# network.
set -euo pipefail
room=$(mktemp -d)
trap 'rm -rf "$room"' EXIT
python3 -m venv "$room/venv"
"$room/venv/bin/pip" install --quiet torch==2.13.0 diffusers==0.42.1
"$room/venv/bin/python" - <<'PY'
import tempfile
from pathlib import Path

from diffusers import DiTTransformer2DModel

size = dict(num_attention_heads=2, attention_head_dim=12, in_channels=4, num_layers=3, sample_size=4, patch_size=1)
with tempfile.TemporaryDirectory() as folder:
    DiTTransformer2DModel(**size).half().save_pretrained(folder, variant="fp16", max_shard_size="60KB")
    names = sorted(path.name for path in Path(folder).iterdir())
    by_pattern = list(Path(folder).glob("*.safetensors.index.json"))
print(*names, f"*.safetensors.index.json: {len(by_pattern)} files", sep="\n")
assert not by_pattern and "diffusion_pytorch_model.safetensors.index.fp16.json" in names
assert any(name.startswith("diffusion_pytorch_model.fp16-00001-of-") for name in names)
PY
