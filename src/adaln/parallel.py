"""Thin words over torch.distributed: nothing else in the project says `dist.`"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import torch.distributed as dist

T = TypeVar("T")
PATIENCE = timedelta(days=1)
"""How long processes wait for one that scores or writes; a process that died is torchrun's to notice, at once."""
_waiting: dist.ProcessGroup | None = None
"""The group in which they wait and tell each other small things: gloo, since NCCL's watchdog would call it a hang."""


def rank() -> int:
    """Number of this process, from 0; 0 without a process group."""
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    """Number of processes; 1 without a process group."""
    return dist.get_world_size() if dist.is_initialized() else 1


def local_rank() -> int:
    """Number of this process on its own machine, hence of its accelerator; 0 unless torchrun started it."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def gathered(value: T) -> list[T]:
    """What each process has, in the order of their ranks, on all of them; each waits for all others."""
    if not dist.is_initialized():
        return [value]
    values: list[T | None] = [None] * world()
    dist.all_gather_object(values, value, group=_waiting)
    return values  # type: ignore[return-value]


def from_first(make: Callable[[], T]) -> T:
    """What `make` gives in the first process, on all of them: for what one of them is to decide or to compute."""
    return gathered(make() if rank() == 0 else None)[0]  # type: ignore[return-value]


@contextmanager
def first_goes_first() -> Iterator[None]:
    """The block is done in the first process before the others do it: they find what it left in a cache."""
    if rank():
        barrier()
    yield
    if not rank():
        barrier()


def barrier() -> None:
    """Wait for all processes."""
    gathered(None)


@contextmanager
def group_of_torchrun() -> Iterator[None]:
    """Join the processes that torchrun started together with this one, if it started it, and leave them at the end."""
    if not dist.is_torchelastic_launched():
        yield
        return
    global _waiting
    dist.init_process_group("gloo")
    _waiting = dist.new_group(backend="gloo", timeout=PATIENCE)
    try:
        yield
    finally:
        dist.destroy_process_group()
        _waiting = None
