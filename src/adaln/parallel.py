"""Thin words over torch.distributed: nothing else in the project says `dist.`

Tensors may have their rows sharded over processes (FSDP2): here is which rows are ours, and how to have them all. A
plain tensor is its own only shard, so whoever uses these words need not know how a run is computed. Sharded tensors are
cut along their first axis as `torch.chunk` cuts, in one row of processes, so that the last processes may have nothing.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import Any, TypeGuard, TypeVar
from uuid import uuid4

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from adaln.launchers import check_torchrun, is_of_torchrun, refuse_other_launchers
from adaln.types import rows_axis

T = TypeVar("T")
PATIENCE = timedelta(days=1)
"""How long processes wait for one that scores or writes; a process that died is torchrun's to notice, at once."""
_waiting: dist.ProcessGroup | None = None
"""The group in which they wait and tell each other small things: gloo, since NCCL's watchdog would call it a hang."""
_beside: dist.ProcessGroup | None = None
"""The same for threads that write beside the training: what they say must not mix with what the training says."""


def rank() -> int:
    """Number of this process, from 0; 0 without a process group."""
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    """Number of processes; 1 without a process group."""
    return dist.get_world_size() if dist.is_initialized() else 1


def local_rank() -> int:
    """Number of this process on its own machine, hence of its accelerator; 0 unless torchrun started it."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def find_device(name: str) -> torch.device:
    """The device that a name means on this machine; `ValueError` where it is not there.

    `cuda`: under torchrun the one of this process's own number.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(kind for kind, there in available.items() if there)
    if not available.get(name.partition(":")[0], False):
        raise ValueError(f"device {name!r} is not here; available: {', '.join(k for k, v in available.items() if v)}")
    if name != "cuda":
        return torch.device(name)
    number, count = local_rank(), torch.cuda.device_count()
    if number >= count:
        raise ValueError(
            f"process {number} of this machine finds no GPU of its own; expected at most {count} processes"
        )
    return torch.device(name, number)


def all_gather(value: T) -> list[T]:
    """What each process has, in the order of their ranks, on all of them; each waits for all others."""
    if not dist.is_initialized():
        return [value]
    values: list[T | None] = [None] * world()
    is_beside = threading.current_thread() is not threading.main_thread()
    dist.all_gather_object(values, value, group=_beside if is_beside else _waiting)
    return values  # type: ignore[return-value]


def from_first(make: Callable[[], T]) -> T:
    """What `make` gives in the first process, on all of them: for what one of them is to decide or to compute."""
    return all_gather(make() if rank() == 0 else None)[0]  # type: ignore[return-value]


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
    all_gather(None)


def any_of(flag: bool) -> bool:
    """Whether the flag is set in any process; each waits for all others, their devices for none."""
    return bool(_all_reduce_on_cpu(torch.tensor(float(flag))))


def all_reduce_mean(values: Tensor) -> Tensor:
    """The mean over all processes, on the CPU; of a single process the values as they are."""
    return _all_reduce_on_cpu(values) / world() if dist.is_initialized() else values


def _all_reduce_on_cpu(values: Tensor) -> Tensor:
    """The sum over all processes, on the CPU."""
    values = values.detach().cpu().clone()
    if dist.is_initialized():
        dist.all_reduce(values, group=_waiting)
    return values


def all_reduce_sum(values: Tensor) -> Tensor:
    """The sum over all processes, on their devices, which nobody waits for."""
    values = values.detach().clone()
    if dist.is_initialized():
        dist.all_reduce(values)
    return values


def fully_shard(model: nn.Module, parts: Sequence[nn.Module], rounded: bool = False) -> None:
    """Shard the rows of all parameters over the processes (FSDP2), in place.

    Each of `parts` is whole only while it computes; `rounded`: in bfloat16 then where it is nothing but linear maps, as
    autocast would round them, which halves what is sent. A process alone keeps the network as it is.
    """
    if not dist.is_initialized():
        return
    from torch.distributed import fsdp
    from torch.distributed.device_mesh import init_device_mesh  # half a second that nobody else is to wait for

    model.register_forward_hook(lambda module, inputs, output: output.clone())  # FSDP2 hangs its hook on no view
    mesh = init_device_mesh(next(model.parameters()).device.type, (world(),))
    in_bfloat16 = fsdp.MixedPrecisionPolicy(torch.bfloat16, torch.float32, cast_forward_inputs=False)
    for part in parts:
        is_rounded = rounded and is_linear(part)
        fsdp.fully_shard(part, mesh=mesh, mp_policy=in_bfloat16 if is_rounded else fsdp.MixedPrecisionPolicy())
    fsdp.fully_shard(model, mesh=mesh)


def is_linear(module: nn.Module) -> bool:
    """Whether all parameters are those of linear maps, which autocast rounds to bfloat16 whenever they multiply."""
    linear = [parameter for part in module.modules() if isinstance(part, nn.Linear) for parameter in part.parameters()]
    return len(linear) == len(list(module.parameters()))


def data_parallel(model: nn.Module) -> nn.Module:
    """The same network, whose backward pass leaves the mean of all processes' gradients in the model."""
    if world() == 1 or any(is_sharded(parameter) for parameter in model.parameters()):
        return model
    network = DistributedDataParallel(model, gradient_as_bucket_view=True)
    network.broadcast_buffers = False  # ours are constants; the argument's name changes between versions of torch
    return network


def no_sync(network: nn.Module) -> AbstractContextManager[None]:
    """In this block gradients add up in each process; the first backward pass after it shares their sum.

    Sharded gradients are summed at once: whole ones are what a device has no memory for.
    """
    return network.no_sync() if isinstance(network, DistributedDataParallel) else nullcontext()


def is_sharded(tensor: Tensor) -> TypeGuard[Any]:
    """Whether processes hold parts of it: it is a DTensor, whose module costs half a second to import."""
    return hasattr(tensor, "placements")


def own(tensor: Tensor) -> Tensor:
    """The rows that this process holds, in the same memory."""
    if not is_sharded(tensor):
        return tensor
    with torch.no_grad():
        rows: Tensor = tensor.to_local()
    return rows


def whole(tensor: Tensor) -> Tensor:
    """All rows, on every process, which all must ask for."""
    if not is_sharded(tensor):
        return tensor
    with torch.no_grad():
        full: Tensor = tensor.full_tensor()
    return full


def own_box(tensor: Tensor) -> tuple[slice, ...]:
    """Which part of the whole this process holds, along each axis; `ValueError` where it is not one part."""
    box = [slice(0, size) for size in tensor.shape]
    if not is_sharded(tensor):
        return tuple(box)
    place = tensor.device_mesh.get_coordinate()
    assert place is not None, "this process is none of those among which a tensor is sharded"
    strided_last = sorted(enumerate(tensor.placements), key=lambda one: type(one[1]).__name__ == "_StridedShard")
    for axis, placement in strided_last:  # these are FSDP2's, of what tensor parallelism has sharded before
        if hasattr(placement, "dim"):
            of = box[placement.dim]
            each = -(-(of.stop - of.start) // tensor.device_mesh.size(axis))
            start = min(of.start + place[axis] * each, of.stop)
            box[placement.dim] = slice(start, min(start + each, of.stop))
    shape = tuple(part.stop - part.start for part in box)
    if own(tensor).shape != shape or any(placement.is_partial() for placement in tensor.placements):
        raise ValueError(f"a tensor is sharded as {tensor.placements}; expected shards as of torch.chunk, or replicas")
    return tuple(box)


def own_rows(tensor: Tensor) -> slice:
    """Which rows of the whole this process holds."""
    return own_box(tensor)[0] if tensor.ndim else slice(0, 1)


def own_part(tensor: Tensor, start: int, stop: int) -> Tensor:
    """What this process holds of rows `start` to `stop` of `as_rows(tensor)`, in the same memory; a scalar is its only
    row."""
    if not tensor.ndim:
        return tensor
    axis = rows_axis(tensor.shape)
    held, rows = own(tensor), own_box(tensor)[axis]
    if 0 in held.shape[:axis]:  # a table, of which another process holds all
        return held.flatten(0, axis)
    first, last = (min(max(row, rows.start), rows.stop) - rows.start for row in (start, stop))
    return held[(0,) * axis][first:last]


@torch.no_grad()
def fill_part(tensor: Tensor, start: int, stop: int, full: Tensor) -> None:
    """Overwrite what this process holds of rows `start` to `stop` of `as_rows(tensor)` by its part of these rows."""
    rows, *others = own_box(tensor)[rows_axis(tensor.shape) :]
    part, first = own_part(tensor, start, stop), max(rows.start - start, 0)
    part.copy_(full[(slice(first, first + len(part)), *others)])


@torch.no_grad()
def fill(tensor: Tensor, full: Tensor) -> None:
    """Overwrite the rows that this process holds by those of the whole."""
    own(tensor).copy_(full[own_rows(tensor)] if is_sharded(tensor) else full)


def shard_like(tensor: Tensor, full: Tensor) -> Tensor:
    """The whole, on the device of `tensor` and sharded as it is."""
    if not is_sharded(tensor):
        return full.to(tensor.device)
    from torch.distributed.tensor import DTensor

    rows = full[own_rows(tensor)].to(own(tensor).device, copy=True)
    return DTensor.from_local(
        rows, tensor.device_mesh, tensor.placements, run_check=False, shape=full.shape, stride=full.stride()
    )


def store_of_this_start(store: dist.Store, number: int, count: int) -> dist.Store:  # type: ignore[name-defined]
    """torchrun's store under a name that all processes agree on and none has used before.

    torchrun keeps one store over its restarts, so that a process would find the addresses of dead ones there. Each says
    that it joins under a name of its own; the first tells its own name to whoever it reads of, dead or alive, until all
    have heard it.
    """
    name, missing = uuid4().hex, set(range(1, count))
    if number:
        store.set(f"joins/{number}", name)
        name = store.get(f"first/{name}").decode()  # waits for it
        store.set(f"heard/{name}/{number}", "")
        missing.clear()
    while missing:
        for other in [other for other in missing if store.check([f"joins/{other}"])]:
            store.set(f"first/{store.get(f'joins/{other}').decode()}", name)
            missing -= {other} if store.check([f"heard/{name}/{other}"]) else set()
        time.sleep(0.01)
    return dist.PrefixStore(name, store)  # type: ignore[attr-defined]


@contextmanager
def group_of_torchrun() -> Iterator[None]:
    """Join the processes that torchrun started together with this one, if it started it, and leave them at the end.

    Inside such a block another one changes nothing. Raises `ValueError` in one process of several of another launcher.
    """
    if not dist.is_initialized():
        refuse_other_launchers("PROGRAM")
    if dist.is_initialized() or not is_of_torchrun():
        yield
        return
    check_torchrun()
    global _waiting, _beside
    if local_rank() < torch.cuda.device_count():  # more processes than GPUs are there for the CPU
        torch.cuda.set_device(local_rank())
    store, number, count = next(rendezvous("env://"))
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, store=store_of_this_start(store, number, count), rank=number, world_size=count)
    _waiting, _beside = (dist.new_group(backend="gloo", timeout=PATIENCE) for _ in range(2))
    try:
        yield
    finally:
        dist.destroy_process_group()
        _waiting = _beside = None
