#!/usr/bin/env bash
# diffusers 0.42.1: with cross_gates, as released, Kandinsky 6's va_modulation holds shift and scale of the video that
# asks the audio, then the gate of the AUDIO stream; the video's gate is in av_modulation, so the three parts have
# unequal widths.
# Expected: three parts of one width, whose last opens the video. Seen: rows D_v, D_v, D_a, the last move only the
# audio.
set -euo pipefail
room=$(mktemp -d)
trap 'rm -rf "$room"' EXIT
python3 -m venv "$room/venv"
"$room/venv/bin/pip" install --quiet torch==2.13.0 diffusers==0.42.1
"$room/venv/bin/python" - <<'PY'
import torch
from diffusers import Kandinsky6Transformer3DModel

torch.manual_seed(0)
VIDEO, AUDIO = 24, 36
model = Kandinsky6Transformer3DModel(
    in_visual_dim=4, out_visual_dim=4, in_text_dim=14, in_text_dim2=10, time_dim=20, model_dim=VIDEO, ff_dim=40,
    num_text_blocks=1, num_visual_blocks=1, axes_dims=(4, 4, 4), in_audio_dim=6, out_audio_dim=6, model_dim_a=AUDIO,
    time_dim_a=28, ff_dim_a=44, text_token_padding=True, ca_rope=True, cross_gates=True, fix_modulation=True).eval()
block = model.visual_transformer_blocks[0]
va, av = block.va_modulation.out_layer, block.av_modulation.out_layer
print("rows of va and av:", len(va.bias), len(av.bias))
inputs = dict(
    hidden_states=torch.randn(1, 2, 4, 4, 9), encoder_hidden_states=torch.randn(1, 3, 14),
    timestep=torch.tensor([500.0]), pooled_projections=torch.randn(1, 10), audio_hidden_states=torch.randn(1, 6, 6))


@torch.no_grad()
def moved_by(bias):
    before = model(**inputs, return_dict=False)
    bias += 1
    after = model(**inputs, return_dict=False)
    return [stream for stream, a, b in zip(("video", "audio"), before, after) if not torch.equal(a, b)]


seen = {"gate in va": moved_by(va.bias[2 * VIDEO :]), "gate in av": moved_by(av.bias[2 * AUDIO :])}
print("streams moved:", seen)
assert (len(va.bias), len(av.bias)) == (2 * VIDEO + AUDIO, 2 * AUDIO + VIDEO)
assert seen == {"gate in va": ["audio"], "gate in av": ["video"]}
PY
