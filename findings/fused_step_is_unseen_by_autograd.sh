#!/usr/bin/env bash
# torch 2.13.0: the fused steps of torch.optim write into parameters without counting it (`_version` stays), on the CPU too.
# Expected: a graph built before a step refuses `backward` after it ("modified by an inplace operation"), as it does with
# the steps that are not fused; who watches `_version` sees that weights have changed.
# Seen: with fused=True it goes through, with the new weights in place of those that the loss was made of: the gradient of
# w * w at w = 1 is 1.8, not 2, after a step of 0.1.
set -euo pipefail
room=$(mktemp -d)
trap 'rm -rf "$room"' EXIT
python3 -m venv "$room/venv"
"$room/venv/bin/pip" install --quiet torch==2.13.0 numpy
"$room/venv/bin/python" - <<'PY'
import torch


def after_a_step(kind, **how):
    weight = torch.nn.Parameter(torch.ones(1))
    optimizer = kind([weight], lr=0.1, **how)
    loss = (weight * weight).sum()
    weight.grad, version = torch.ones(1), weight._version
    optimizer.step()
    counted, weight.grad = weight._version - version, None
    try:
        loss.backward()
    except RuntimeError as error:
        assert "modified by an inplace operation" in str(error)
        return counted, "refused"
    return counted, round(float(weight.grad), 6)


kinds = (torch.optim.SGD, torch.optim.Adagrad, torch.optim.Adam)
plain = {kind.__name__: after_a_step(kind) for kind in kinds}
fused = {kind.__name__: after_a_step(kind, fused=True) for kind in kinds}
print("versions counted, gradient:", plain, "fused:", fused, sep="\n")
assert all(counted > 0 and gradient == "refused" for counted, gradient in plain.values())
assert fused == {kind.__name__: (0, 1.8) for kind in kinds}
PY
