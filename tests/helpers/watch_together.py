"""One of several processes that train a sharded network under `adaln.watch` into FOLDER; one alone does it whole."""

import sys

import torch
from torch.distributed.fsdp import fully_shard

import adaln
from adaln.parallel import group_of_torchrun, world
from helpers.foreign import foreign


def main(folder: str) -> None:
    """Gradients that are a function of the weights, so that both go the same way."""
    with group_of_torchrun():
        network = foreign("SD3")
        adaln.initialise(network, "adaln-gaussian", seed=5)
        if world() > 1:
            fully_shard(network)
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
        try:
            adaln.watch(network, optimizer, to=folder, every=1)
        except ValueError as error:
            print(error)  # noqa: T201
        for _ in range(4):
            for parameter in network.parameters():
                parameter.grad = parameter.detach() * 0.5 + 1e-3
            optimizer.step()


if __name__ == "__main__":
    main(*sys.argv[1:])
