"""Checkpoint files that processes write together, each its own rows: one process would write the very same files.

A safetensors file is a header and the tensors' bytes one after the other, so the rows that a process holds are one
stretch of it: the first process lays the file out, then each writes its stretches. Nothing is gathered, nothing is
pickled, and any number of processes reads the file again.
"""

import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from adaln.dtensor import is_sharded, own_rows
from adaln.files import atomic_folder
from adaln.parallel import barrier, from_first, rank
from adaln.tensors import DTYPES

DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}


class Shard(NamedTuple):
    """The rows of a tensor that one process writes."""

    rows: Tensor
    start: int
    shape: torch.Size
    """Of the whole."""


def shard_of(tensor: Tensor, own: Tensor) -> Shard:
    """What this process writes of a tensor, `own` being its rows: what all have whole, the first one writes."""
    rows = own[:0] if rank() and own.ndim and not is_sharded(tensor) else own
    return Shard(rows, own_rows(tensor).start, tensor.shape)


def save_sharded(folder: Path, files: Mapping[str, Mapping[str, Shard]], metadata: Mapping[str, str]) -> None:
    """Write `folder` with a safetensors file per entry of `files`, whole or not at all; every process calls it.

    Raises `OSError` where this process's disk is full; the others then wait until torchrun ends them.
    """
    with shared_folder(folder) as temporary:
        layouts = {temporary / f"{name}.safetensors": lay_out(shards, metadata) for name, shards in files.items()}
        if rank() == 0:
            for path, layout in layouts.items():
                path.write_bytes(layout.header)
                os.truncate(path, layout.num_bytes)
        barrier()
        for (path, layout), shards in zip(layouts.items(), files.values(), strict=True):
            write_shards(path, layout.begins, shards)


@contextmanager
def shared_folder(path: Path) -> Iterator[Path]:
    """A temporary folder for all processes, which becomes `path` when the block ends well in each of them."""
    if rank() == 0:
        with atomic_folder(path) as temporary:
            yield from_first(lambda: temporary)
            barrier()
    else:
        yield from_first(lambda: path)
        barrier()
    barrier()  # whoever returns finds it


class Layout(NamedTuple):
    """A safetensors file before any tensor is written."""

    header: bytes
    begins: dict[str, int]
    """Where in the file each tensor begins."""
    num_bytes: int
    """Of the whole file."""


def lay_out(shards: Mapping[str, Shard], metadata: Mapping[str, str]) -> Layout:
    """The file of the whole tensors: wider types first, then by name, as the format's own writer has it.

    Source: https://huggingface.co/docs/safetensors, section "Format".
    """
    entries: dict[str, object] = {"__metadata__": dict(metadata)}
    begins, end = {}, 0
    for name in sorted(shards, key=lambda name: (-shards[name].rows.element_size(), name)):
        rows, _, shape = shards[name]
        begins[name], end = end, end + rows.element_size() * math.prod(shape)
        entries[name] = {"dtype": DTYPE_NAMES[rows.dtype], "shape": list(shape), "data_offsets": [begins[name], end]}
    content = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    content += b" " * (-len(content) % 8)
    header = len(content).to_bytes(8, "little") + content
    return Layout(header, {name: len(header) + begin for name, begin in begins.items()}, len(header) + end)


def write_shards(path: Path, begins: Mapping[str, int], shards: Mapping[str, Shard]) -> None:
    """Write this process's rows where they begin in the file."""
    with path.open("r+b") as file:
        for name, (rows, start, shape) in shards.items():
            if rows.ndim or rank() == 0:
                file.seek(begins[name] + start * rows.element_size() * math.prod(shape[1:]))
                file.write(rows.contiguous().flatten().view(torch.uint8).numpy().data)
        file.flush()
        os.fsync(file.fileno())
