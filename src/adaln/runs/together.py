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


class Piece(NamedTuple):
    """The rows of a tensor that one process writes."""

    rows: Tensor
    start: int
    shape: torch.Size
    """Of the whole."""


def piece_of(tensor: Tensor, own: Tensor) -> Piece:
    """What this process writes of a tensor, `own` being its rows: what all have whole, the first one writes."""
    rows = own[:0] if rank() and own.ndim and not is_sharded(tensor) else own
    return Piece(rows, own_rows(tensor).start, tensor.shape)


def save_together(folder: Path, files: Mapping[str, Mapping[str, Piece]], metadata: Mapping[str, str]) -> None:
    """Write `folder` with a safetensors file per entry of `files`, whole or not at all; every process calls it.

    Raises `OSError` where this process's disk is full; the others then wait until torchrun ends them.
    """
    with shared_folder(folder) as temporary:
        heads = {temporary / f"{name}.safetensors": head(pieces, metadata) for name, pieces in files.items()}
        if rank() == 0:
            for path, (content, _, num_bytes) in heads.items():
                path.write_bytes(content)
                os.truncate(path, num_bytes)
        barrier()
        for (path, (_, begins, _)), pieces in zip(heads.items(), files.values(), strict=True):
            write_pieces(path, begins, pieces)


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


def head(pieces: Mapping[str, Piece], metadata: Mapping[str, str]) -> tuple[bytes, dict[str, int], int]:
    """What the file begins with, where in it each tensor begins, and its length in bytes.

    Wider types first, then by name, as the format's own writer has it.
    Source: https://huggingface.co/docs/safetensors, section "Format".
    """
    entries: dict[str, object] = {"__metadata__": dict(metadata)}
    begins, end = {}, 0
    for name in sorted(pieces, key=lambda name: (-pieces[name].rows.element_size(), name)):
        rows, _, shape = pieces[name]
        begins[name], end = end, end + rows.element_size() * math.prod(shape)
        entries[name] = {"dtype": DTYPE_NAMES[rows.dtype], "shape": list(shape), "data_offsets": [begins[name], end]}
    content = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    content += b" " * (-len(content) % 8)
    content = len(content).to_bytes(8, "little") + content
    return content, {name: len(content) + begin for name, begin in begins.items()}, len(content) + end


def write_pieces(path: Path, begins: Mapping[str, int], pieces: Mapping[str, Piece]) -> None:
    """Write this process's rows to their places in the file."""
    with path.open("r+b") as file:
        for name, (rows, start, shape) in pieces.items():
            if rows.ndim or rank() == 0:
                file.seek(begins[name] + start * rows.element_size() * math.prod(shape[1:]))
                file.write(rows.contiguous().flatten().view(torch.uint8).numpy().data)
        file.flush()
        os.fsync(file.fileno())
