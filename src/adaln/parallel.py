"""Thin words over torch.distributed: nothing else in the project says `dist.`"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch.distributed as dist


def rank() -> int:
    """Number of this process, from 0; 0 without a process group."""
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    """Number of processes; 1 without a process group."""
    return dist.get_world_size() if dist.is_initialized() else 1


def local_rank() -> int:
    """Number of this process on its own machine, hence of its accelerator; 0 unless torchrun started it."""
    return int(os.environ.get("LOCAL_RANK", "0"))


@contextmanager
def group_of_torchrun() -> Iterator[None]:
    """Join the processes that torchrun started together with this one, if it started it, and leave them at the end."""
    if not dist.is_torchelastic_launched():
        yield
        return
    dist.init_process_group("gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()
