"""Compiles the blocks of the named networks as training does: BACKEND PRECISION CHECKPOINT_BLOCKS NAME...

Writes for each: name, blocks, graphs, graph breaks, and whether the gradient is as near to the float32 one as without.
"""

import sys
from functools import partial

import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters

from adaln.execution import Execution, Precision, autocast, blocks, prepare_blocks
from adaln.models import MODELS, build
from adaln.rng import generator
from adaln.types import DataSpec

DIGITS = DataSpec(1, 8, 8, 10)
torch_compile = torch.compile


def main(backend: str, precision: Precision, checkpoint_blocks: int, names: list[str]) -> None:
    torch.compile = partial(torch_compile, backend=backend)
    for name in names:
        torch.compiler.reset()
        counters.clear()
        model = build(MODELS[name], DIGITS, generator("weights"))
        rng = generator("moved", name)
        for parameter in model.parameters():
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=rng)
        exact, plain = gradient(model, "float32"), gradient(model, precision)
        prepare_blocks(model, Execution(compile=True, checkpoint_blocks=checkpoint_blocks))
        compiled, again = gradient(model, precision), gradient(model, precision)
        assert torch.equal(compiled, again)
        is_near = (compiled - exact).norm() < 1.2 * (plain - exact).norm() + 1e-5 * exact.norm()
        breaks = sum(counters["graph_break"].values())
        sys.stdout.write(f"{name} {len(blocks(model))} {counters['stats']['unique_graphs']} {breaks} {is_near}\n")


def gradient(model: nn.Module, precision: Precision) -> Tensor:
    x, t, y = torch.randn(3, 1, 8, 8, generator=generator("x")), torch.tensor([1, 50, 900]), torch.tensor([0, 9, 10])
    model.zero_grad()
    with autocast(precision, x.device):
        output = model(x, t, y)
    output.float().square().mean().backward()
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4:])
