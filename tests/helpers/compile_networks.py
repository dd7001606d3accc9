"""Compiles the named networks for 8 x 8 digits, whole graphs only; writes each name whose numbers stay the same."""

import sys

import torch

from adaln.models import MODELS, build
from adaln.rng import generator
from helpers.networks import DIGITS


def main(names: list[str]) -> None:
    x, t, y = torch.randn(3, 1, 8, 8, generator=generator("x")), torch.tensor([0.0, 0.5, 1.0]), torch.tensor([0, 9, 10])
    for name in names:
        model = build(MODELS[name], DIGITS, generator("weights"))
        for parameter in model.parameters():
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator(name))
        compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
        output = compiled(x, t, y)
        output.square().mean().backward()
        with torch.no_grad():
            torch.testing.assert_close(output, model(x, t, y), rtol=0, atol=1e-5 * output.abs().max().item())
        sys.stdout.write(f"{name}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
