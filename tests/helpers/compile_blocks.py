"""Compiles the blocks of the named networks as training and sampling do: BACKEND PRECISION CHECKPOINT_BLOCKS NAME...

BACKEND is one of torch's, or "recompute", as on a GPU.
Writes for each: name, blocks, graphs, graph breaks, whether the gradient is as near to the float32 one as without, and
graphs after sampling from it in both precisions and two sizes of batches.
"""

import sys

import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters

from adaln.execution import Execution, Precision, autocast, blocks, prepare_blocks, recompute
from adaln.models import MODELS, build
from adaln.rng import generator
from helpers.networks import DIGITS


def main(backend: str, precision: Precision, checkpoint_blocks: int, names: list[str]) -> None:
    chosen = recompute if backend == "recompute" else backend
    for name in names:
        torch.compiler.reset()
        counters.clear()
        model = build(MODELS[name], DIGITS, generator("weights"))
        rng = generator("moved", name)
        for parameter in model.parameters():
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=rng)
        exact, plain = gradient(model, "float32"), gradient(model, precision)
        prepare_blocks(model, Execution(compile=True, checkpoint_blocks=checkpoint_blocks), chosen)
        compiled, again = gradient(model, precision), gradient(model, precision)
        assert torch.equal(compiled, again)
        is_near = (compiled - exact).norm() < 1.2 * (plain - exact).norm() + 1e-5 * exact.norm()
        trained = counters["stats"]["unique_graphs"]
        with torch.no_grad():
            for other in ("float32", "bfloat16"):
                output(model, other, 3), output(model, other, 2)
        breaks = sum(counters["graph_break"].values())
        found = counters["stats"]["unique_graphs"]
        sys.stdout.write(f"{name} {len(blocks(model))} {trained} {breaks} {is_near} {found}\n")


def gradient(model: nn.Module, precision: Precision) -> Tensor:
    model.zero_grad()
    output(model, precision, 3).square().mean().backward()
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


def output(model: nn.Module, precision: Precision, count: int) -> Tensor:
    x, t, y = torch.randn(3, 1, 8, 8, generator=generator("x")), torch.tensor([1, 50, 900]), torch.tensor([0, 9, 10])
    with autocast(precision, x.device):
        return model(x[:count], t[:count], y[:count]).float()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4:])
