"""One of several processes that start a sharded network and train it for two steps: `SCHEME`; the first says
which tensors differ from those of a process alone, after the start and after each step."""

import json
import sys

import torch
from torch import nn
from torch.distributed.fsdp import fully_shard

import adaln
from adaln.conditioning import Role
from adaln.parallel import group_of_torchrun, rank, whole
from helpers.foreign import foreign


def main(scheme: str) -> None:
    """The same gradients in both."""
    with group_of_torchrun():
        alone, sharded = foreign("SD3"), foreign("SD3")
        fully_shard(sharded)
        optimizers = []
        for network in (alone, sharded):
            started = adaln.initialise(network, scheme, seed=5)
            optimizers.append(torch.optim.AdamW(network.parameters(), lr=1e-2, weight_decay=0.0))
            started.hold(optimizers[-1])
        differ = [different(alone, sharded)]
        for _ in range(2):
            for network, optimizer in zip((alone, sharded), optimizers, strict=True):
                for parameter in network.parameters():
                    parameter.grad = torch.ones_like(parameter)
                optimizer.step()
            differ.append(different(alone, sharded))
        gates = [site for site in started if site.role is Role.GATE]
        held = [bool((whole(sharded.get_parameter(gate.bias))[gate.rows] == 1).all()) for gate in gates]
        if rank() == 0:
            sys.stdout.write(f"{json.dumps([str(started), differ, all(held)])}\n")


def different(alone: nn.Module, sharded: nn.Module) -> list[str]:
    """Names of the tensors that are not the same bits."""
    whole_of = {name: whole(tensor) for name, tensor in sharded.named_parameters()}
    return [name for name, tensor in alone.named_parameters() if not torch.equal(tensor, whole_of[name])]


if __name__ == "__main__":
    main(*sys.argv[1:])
