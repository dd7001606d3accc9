"""Compiles the blocks of the named networks as training does; writes for each: name, blocks, graphs, graph breaks."""

import sys

import torch
from torch._dynamo.utils import counters

from adaln.execution import Execution, autocast, blocks, prepare_blocks
from adaln.models import MODELS, build
from adaln.rng import generator
from adaln.types import DataSpec

DIGITS = DataSpec(1, 8, 8, 10)


def main(precision: str, checkpoint_blocks: int, names: list[str]) -> None:
    x, t, y = torch.randn(3, 1, 8, 8, generator=generator("x")), torch.tensor([1, 50, 900]), torch.tensor([0, 9, 10])
    execution = Execution(compile=True, checkpoint_blocks=checkpoint_blocks)
    for name in names:
        torch.compiler.reset()
        counters.clear()
        plain, compiled = (build(MODELS[name], DIGITS, generator("weights")) for _ in range(2))
        prepare_blocks(compiled, execution)
        assert list(plain.state_dict()) == list(compiled.state_dict())
        for model in (plain, compiled):
            rng = generator("moved", name)
            for parameter in model.parameters():
                parameter.data += 0.1 * torch.randn(parameter.shape, generator=rng)
            for _ in range(2):
                model.zero_grad()
                with autocast(precision, x.device):
                    output = model(x, t, y)
                output.float().square().mean().backward()
        for one, other in zip(plain.parameters(), compiled.parameters(), strict=True):
            difference = (one.grad - other.grad).norm() / one.grad.norm().clamp(min=1e-6)
            assert difference < (2e-2 if precision == "bfloat16" else 1e-4), (name, difference)
        breaks = sum(counters["graph_break"].values())
        sys.stdout.write(f"{name} {len(blocks(compiled))} {counters['stats']['unique_graphs']} {breaks}\n")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3:])
