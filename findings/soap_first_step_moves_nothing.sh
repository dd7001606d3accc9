#!/usr/bin/env bash
# pytorch_optimizer 4.1.0, torch 2.13.0: the first step of SOAP changes no weight; it only begins its statistics.
# Expected: n steps are n updates, as of AdamW, Lamb, Adan, Shampoo and Kron of the same package.
# Seen: after one step weights are what they were, also with weight decay; the learning rate of the first step is never used,
# and whoever asks which weights move at update k of a start finds them one update later than with other optimisers.
set -euo pipefail
room=$(mktemp -d)
trap 'rm -rf "$room"' EXIT
python3 -m venv "$room/venv"
"$room/venv/bin/pip" install --quiet torch==2.13.0 pytorch_optimizer==4.1.0 numpy
"$room/venv/bin/python" - <<'PY'
import pytorch_optimizer
import torch


def moved(name, **settings):
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(8, 8))
    optimizer, steps = getattr(pytorch_optimizer, name)([weight], lr=0.1, **settings), []
    for _ in range(3):
        before = weight.detach().clone()
        weight.grad = torch.randn(8, 8)
        optimizer.step()
        steps.append(not torch.equal(before, weight.detach()))
    return steps


found = {name: moved(name) for name in ("SOAP", "AdEMAMix", "Lamb", "Adan", "Shampoo", "Kron")}
found["SOAP, weight decay 0.1"] = moved("SOAP", weight_decay=0.1)
print(*(f"{name}: {steps}" for name, steps in found.items()), sep="\n")
assert {name for name, steps in found.items() if steps == [False, True, True]} == {"SOAP", "SOAP, weight decay 0.1"}
assert all(all(steps) for name, steps in found.items() if "SOAP" not in name)
PY
