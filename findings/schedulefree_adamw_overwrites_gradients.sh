#!/usr/bin/env bash
# schedulefree 1.4.1, torch 2.13.0: `AdamWScheduleFree.step()` leaves its normalised update in `.grad`, and so does
# RAdamScheduleFree once its variance is rectified; SGDScheduleFree does not.
# Expected: a step reads gradients; what logs their norm after it, as loops that log at the end of an iteration do, logs
# that of the gradients.
# Seen: after a first step of AdamW every entry of `.grad` is 1 (it is g / (sqrt(v) + eps), weight decay added), so that
# the norm is the root of the number of weights whatever the gradients were.
set -euo pipefail
room=$(mktemp -d)
trap 'rm -rf "$room"' EXIT
python3 -m venv "$room/venv"
"$room/venv/bin/pip" install --quiet torch==2.13.0 schedulefree==1.4.1 numpy
"$room/venv/bin/python" - <<'PY'
import schedulefree
import torch


def gradient_after(kind, steps=1):
    weight = torch.nn.Parameter(torch.ones(4))
    optimizer = kind([weight], lr=0.1)
    optimizer.train()
    for _ in range(steps):
        weight.grad = torch.tensor([1.0, 2.0, 3.0, 4.0])
        optimizer.step()
    return [round(value, 3) for value in weight.grad.tolist()]


found = {
    "AdamW": gradient_after(schedulefree.AdamWScheduleFree),
    "RAdam, 1 step": gradient_after(schedulefree.RAdamScheduleFree),
    "RAdam, 10 steps": gradient_after(schedulefree.RAdamScheduleFree, 10),
    "SGD": gradient_after(schedulefree.SGDScheduleFree),
}
print(*(f"{name}: {value}" for name, value in found.items()), sep="\n")
assert found["AdamW"] == found["RAdam, 10 steps"] == [1.0] * 4
assert found["RAdam, 1 step"] == found["SGD"] == [1.0, 2.0, 3.0, 4.0]
PY
