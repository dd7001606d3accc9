#!/usr/bin/env bash
# diffusers 0.42.1: inside one Flux or SD3 the blocks take shift before scale and the last layer scale before shift.
# Expected: one order in one network. Seen: shift is the first chunk in the blocks and the second in norm_out.linear,
# while CogVideoX's norm_out.linear, of the same name and shape, is shift first again.
set -euo pipefail
room=$(mktemp -d)
trap 'rm -rf "$room"' EXIT
python3 -m venv "$room/venv"
"$room/venv/bin/pip" install --quiet torch==2.13.0 diffusers==0.42.1
"$room/venv/bin/python" - <<'PY'
import torch
from diffusers import CogVideoXTransformer3DModel, FluxTransformer2DModel, SD3Transformer2DModel

torch.manual_seed(0)
two = dict(num_attention_heads=2, attention_head_dim=16, in_channels=4, num_layers=1, patch_size=1)
flux = FluxTransformer2DModel(num_single_layers=1, joint_attention_dim=14, pooled_projection_dim=10,
                              axes_dims_rope=(4, 4, 8), **two)
sd3 = SD3Transformer2DModel(sample_size=4, joint_attention_dim=14, caption_projection_dim=32, pooled_projection_dim=10,
                            pos_embed_max_size=4, **(two | dict(num_layers=2)))
cog = CogVideoXTransformer3DModel(time_embed_dim=32, text_embed_dim=14, sample_width=4, sample_height=4,
                                  sample_frames=5, max_text_seq_length=3, **two)


@torch.no_grad()
def shift_chunk(norm, run, chunks):
    """The first chunk that moves every token of what the norm gives by the same vector."""
    tokens, condition = torch.randn(1, 5, 32), torch.randn(1, 32)
    for chunk, rows in enumerate(norm.linear.bias.chunk(chunks)):
        before = run(norm, tokens, condition)
        rows += 1
        moved = run(norm, tokens, condition) - before
        if moved.any() and moved.std(1).max() < 1e-5:
            return chunk
    return None


def in_block(norm, x, c):
    return norm(x, emb=c)[0]


def at_the_end(norm, x, c):
    return norm(x, c)


seen = {
    "Flux": (shift_chunk(flux.transformer_blocks[0].norm1, in_block, 6), shift_chunk(flux.norm_out, at_the_end, 2)),
    "SD3": (shift_chunk(sd3.transformer_blocks[0].norm1, in_block, 6), shift_chunk(sd3.norm_out, at_the_end, 2)),
    "CogVideoX": (
        shift_chunk(cog.transformer_blocks[0].norm1, lambda norm, x, c: norm(x, x, c)[0], 6),
        shift_chunk(cog.norm_out, lambda norm, x, c: norm(x, temb=c), 2),
    ),
}
print("chunk of the shift (block, last layer):", seen)
assert seen == {"Flux": (0, 1), "SD3": (0, 1), "CogVideoX": (0, 0)}
PY
