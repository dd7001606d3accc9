"""Compiles the blocks of a network whose blocks exceed the buckets of DDP; writes into how many pieces they fall."""

import sys

import torch
import torch.distributed as dist
from torch._dynamo.utils import counters
from torch.nn.parallel import DistributedDataParallel

from adaln.execution import Execution, prepare_blocks
from adaln.models import DiTConfig, build
from adaln.rng import generator
from helpers.networks import DIGITS


def main() -> None:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    model = build(DiTConfig(320, 2, 4, 2), DIGITS, generator("weights"))
    prepare_blocks(model, Execution(compile=True))
    network = DistributedDataParallel(model, bucket_cap_mb=1)
    network(torch.zeros(1, 1, 8, 8), torch.zeros(1), torch.zeros(1, dtype=torch.long)).sum().backward()
    sys.stdout.write(f"{counters['aot_autograd']['total']}\n")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
