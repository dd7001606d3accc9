#!/usr/bin/env bash
# diffusers 0.42.1: `EMAModel(use_ema_warmup=False)`, the default, warms up too, along another curve than `True`.
# Expected: without warmup the decay is `decay` (0.9999) from the first update on.
# Seen: it is min(decay, (1 + step) / (10 + step)): 0.18 at the second update, 0.991 at the 1,000th, 0.9999 only from the
# 90,000th on. With use_ema_warmup=True it is 1 - (1 + step)^(-2/3), which at the 1,000th is 0.990; the first update copies
# the weights in both, so nothing is left of the start. `min_decay=0.9999` is what gives a decay that is constant after it.
set -euo pipefail
room=$(mktemp -d)
trap 'rm -rf "$room"' EXIT
python3 -m venv "$room/venv"
"$room/venv/bin/pip" install --quiet torch==2.13.0 diffusers==0.42.1 numpy
"$room/venv/bin/python" - <<'PY'
import torch
from diffusers.training_utils import EMAModel

UPDATES = (1, 2, 1_001, 10_001, 90_001, 100_001)


def decays(**settings):
    average = EMAModel([torch.nn.Parameter(torch.zeros(1))], decay=0.9999, **settings)
    return [round(average.get_decay(update), 4) for update in UPDATES]


found = {"default": decays(), "warmup": decays(use_ema_warmup=True), "min_decay": decays(min_decay=0.9999)}
print("update", *UPDATES)
print(*(f"{name}: {values}" for name, values in found.items()), sep="\n")
assert found["default"] == [0.0, 0.1818, 0.9911, 0.9991, 0.9999, 0.9999]
assert found["warmup"] == [0.0, 0.37, 0.99, 0.9978, 0.9995, 0.9995]
assert found["min_decay"] == [0.0, *[0.9999] * 5]
PY
