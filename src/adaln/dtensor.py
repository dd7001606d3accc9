"""Tensors whose rows are sharded over processes (FSDP2): which rows are ours, and how to have them all.

A plain tensor is its own only shard: whoever uses these words need not know how a run is computed. Sharded tensors are
cut along their first axis as `torch.chunk` cuts, in one row of processes, so that the last processes may have nothing.
"""

from typing import Any, TypeGuard

import torch
from torch import Tensor


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


def own_rows(tensor: Tensor) -> slice:
    """Which rows of the whole this process holds."""
    if not is_sharded(tensor):
        return slice(0, len(tensor) if tensor.ndim else 1)
    mesh, count = tensor.device_mesh, len(tensor)
    each = -(-count // mesh.size())
    start = min(mesh.get_local_rank() * each, count)
    return slice(start, min(start + each, count))


def own_part(tensor: Tensor, start: int, stop: int) -> Tensor:
    """What this process holds of rows `start` to `stop`, in the same memory; a scalar is its own only row."""
    if not tensor.ndim:
        return tensor
    rows = own_rows(tensor)
    first, last = (min(max(row, rows.start), rows.stop) - rows.start for row in (start, stop))
    return own(tensor)[first:last]


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
