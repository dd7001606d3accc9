#!/usr/bin/env bash
# diffusers 0.42.1: in the last block of CogVideoX and Qwen-Image four of the text's six chunks (attention's gate; the
# MLP's shift, scale, gate) reach no output, though their rows are stored and released.
# Expected: every row of the modulation is trained. Seen: their gradient is exactly zero, in the block before it is not.
set -euo pipefail
room=$(mktemp -d)
trap 'rm -rf "$room"' EXIT
python3 -m venv "$room/venv"
"$room/venv/bin/pip" install --quiet torch==2.13.0 diffusers==0.42.1
"$room/venv/bin/python" - <<'PY'
import torch
from diffusers import CogVideoXTransformer3DModel, QwenImageTransformer2DModel

torch.manual_seed(0)
two = dict(num_attention_heads=2, in_channels=4, out_channels=4, num_layers=2)
qwen = QwenImageTransformer2DModel(attention_head_dim=12, joint_attention_dim=14, axes_dims_rope=(4, 4, 4), **two)
cog = CogVideoXTransformer3DModel(attention_head_dim=16, time_embed_dim=20, text_embed_dim=14, patch_size=1,
                                  sample_width=4, sample_height=4, sample_frames=5, max_text_seq_length=3, **two)
text, t = dict(encoder_hidden_states=torch.randn(1, 3, 14)), torch.tensor([0.5])
qwen(hidden_states=torch.randn(1, 16, 4), timestep=t, img_shapes=[[(1, 4, 4)]], **text).sample.square().sum().backward()
cog(hidden_states=torch.randn(1, 2, 4, 4, 4), timestep=1000 * t, **text).sample.square().sum().backward()


def alive(linear, chunks=6):
    return [bool(rows.any()) for rows in linear.bias.grad.chunk(chunks)]


seen = {}
for depth in (0, 1):
    block = cog.transformer_blocks[depth]
    seen["CogVideoX", depth] = alive(block.norm1.linear)[3:] + alive(block.norm2.linear)[3:]
    seen["Qwen-Image", depth] = alive(qwen.transformer_blocks[depth].txt_mod[1])
for key, chunks in seen.items():
    print(*key, "text's attention shift, scale, gate, MLP shift, scale, gate get a gradient:", chunks)
assert all(chunks == ([True] * 6 if depth == 0 else [True, True] + [False] * 4) for (_, depth), chunks in seen.items())
PY
