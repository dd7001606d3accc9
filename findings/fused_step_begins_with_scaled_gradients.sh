#!/usr/bin/env bash
# torch 2.13.0: under `GradScaler`, what runs at the beginning of `optimizer.step()` (a step pre-hook, clipping inside a
# wrapper) sees gradients times the scale where the optimiser is fused, on the CPU too.
# Expected: `scaler.step(optimizer)` unscales, then steps; hooks of the step see gradients as they are.
# Seen: fused optimisers unscale inside their kernel: the hook sees 65,536 times the gradient, and what it clips there to a
# norm of 1 is divided by 65,536 afterwards. After the step both kinds have the plain gradient in `.grad`.
set -euo pipefail
room=$(mktemp -d)
trap 'rm -rf "$room"' EXIT
python3 -m venv "$room/venv"
"$room/venv/bin/pip" install --quiet torch==2.13.0 numpy
"$room/venv/bin/python" - <<'PY'
import torch


def gradients(**how):
    weight, seen = torch.nn.Parameter(torch.ones(1)), []
    optimizer = torch.optim.SGD([weight], lr=1.0, **how)
    optimizer.register_step_pre_hook(lambda *_: seen.append(float(weight.grad)))
    scaler = torch.amp.GradScaler("cpu", init_scale=65_536.0)
    scaler.scale(3 * weight.sum()).backward()
    scaler.step(optimizer)
    return {"in the hook": seen[0], "after": float(weight.grad), "weight": float(weight.detach())}


def clipped_in_the_hook(**how):
    weight = torch.nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([weight], lr=1.0, **how)
    optimizer.register_step_pre_hook(lambda *_: torch.nn.utils.clip_grad_norm_([weight], 1.0) and None)
    scaler = torch.amp.GradScaler("cpu", init_scale=65_536.0)
    scaler.scale(3 * weight.sum()).backward()
    scaler.step(optimizer)
    return round(1.0 - float(weight.detach()), 4)


found = gradients(), gradients(fused=True), clipped_in_the_hook(), clipped_in_the_hook(fused=True)
print(*found, sep="\n")
plain, fused, clipped, clipped_fused = found
assert plain == {"in the hook": 3.0, "after": 3.0, "weight": -2.0}
assert fused == {"in the hook": 3 * 65_536.0, "after": 3.0, "weight": -2.0}
assert (clipped, clipped_fused) == (1.0, 0.0)
PY
