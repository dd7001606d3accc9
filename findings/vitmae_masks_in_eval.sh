#!/usr/bin/env bash
# transformers 5.24.0: ViTMAEModel masks three quarters of the patches, drawn anew in every call, in eval() too.
# Expected: features of a network in eval() are a function of the image, as those of ViT, DINOv2 and CLIP are, so that a
# Frechet distance may be taken in them. Seen: two calls on one image differ, in tokens and in their order; with
# mask_ratio=0 the class token is the same again to rounding, and with one `noise` given to both calls all is.
set -euo pipefail
room=$(mktemp -d)
trap 'rm -rf "$room"' EXIT
python3 -m venv "$room/venv"
"$room/venv/bin/pip" install --quiet torch==2.13.0 numpy transformers==5.24.0
"$room/venv/bin/python" - <<'PY'
import torch
from transformers import ViTConfig, ViTMAEConfig, ViTMAEModel, ViTModel

torch.manual_seed(0)
sizes = dict(hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48, image_size=32, patch_size=8)
image = torch.randn(1, 3, 32, 32)


@torch.no_grad()
def change(model, **given):
    """The largest difference of the class token between two calls on one image, and the number of tokens."""
    first, second = (model.eval()(image, **given).last_hidden_state for _ in range(2))
    return (first[:, 0] - second[:, 0]).abs().max().item(), first.shape[1]


vit, masked = change(ViTModel(ViTConfig(**sizes))), change(ViTMAEModel(ViTMAEConfig(**sizes)))
whole = change(ViTMAEModel(ViTMAEConfig(**sizes, mask_ratio=0.0)))
told = change(ViTMAEModel(ViTMAEConfig(**sizes)), noise=torch.rand(1, 16))
print(f"change of the class token, tokens: ViT {vit}, ViTMAE {masked}, mask_ratio 0 {whole}, noise given {told}")
assert vit == (0.0, 17) and told == (0.0, 5)
assert masked[0] > 1e-3 and masked[1] == 5
assert whole[0] < 1e-5 and whole[1] == 17
PY
