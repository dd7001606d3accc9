#!/usr/bin/env bash
# diffusers 0.42.1: CogView3+ and CogView4 have the same names and shapes in every block, so one loads the other's
# weights strictly. But CogView3+ orders the 12 chunks of its modulation by stream and CogView4 interleaves the streams.
# Expected: same names and shapes, same roles. Seen: the second chunk is the image's scale here, the text's shift there.
set -euo pipefail
room=$(mktemp -d)
trap 'rm -rf "$room"' EXIT
python3 -m venv "$room/venv"
"$room/venv/bin/pip" install --quiet torch==2.13.0 diffusers==0.42.1
"$room/venv/bin/python" - <<'PY'
import torch
from diffusers import CogView3PlusTransformer2DModel, CogView4Transformer2DModel

torch.manual_seed(0)
D, C = 24, 20
size = dict(patch_size=1, in_channels=4, out_channels=4, num_layers=2, num_attention_heads=2, attention_head_dim=12,
            text_embed_dim=14, time_embed_dim=C, condition_dim=8, sample_size=4)
three = CogView3PlusTransformer2DModel(pos_embed_max_size=4, **size)
four = CogView4Transformer2DModel(rope_axes_dim=(4, 4), **size)
print(four.load_state_dict({k: v for k, v in three.state_dict().items() if k in four.state_dict()}, strict=True))


@torch.no_grad()
def moved_at_once(model, chunk):
    """The stream whose normed tokens change when this chunk of the modulation grows by one."""
    norm = model.transformer_blocks[0].norm1
    inputs = torch.randn(1, 5, D), torch.randn(1, 3, D), torch.randn(1, C)
    before = norm(*inputs)
    norm.linear.bias[chunk * D : (chunk + 1) * D] += 1
    after = norm(*inputs)
    moved = [stream for stream, i in (("image", 0), ("text", 5)) if not torch.equal(before[i], after[i])]
    return "+".join(moved) or "none (gate or MLP)"


seen = {type(model).__name__: [moved_at_once(model, chunk) for chunk in range(4)] for model in (three, four)}
print(seen)
assert seen["CogView3PlusTransformer2DModel"] == ["image", "image", "none (gate or MLP)", "none (gate or MLP)"]
assert seen["CogView4Transformer2DModel"] == ["image", "text", "image", "text"]
PY
