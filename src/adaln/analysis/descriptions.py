"""The distributions of a whole model: one pass over its tensors, one record per role, block, branch and module."""

import json
import struct
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from adaln.analysis.distributions import Summary, summarise
from adaln.analysis.groups import Group, Piece, pieces
from adaln.analysis.lattice import CHUNK_ELEMENTS, Sketch, sketch, sketch_chunks
from adaln.runs import is_whole

_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


@dataclass(frozen=True, slots=True)
class Description:
    """One group of values and all that is known of it; JSON through `dataclasses.asdict`."""

    group: Group
    summary: Summary


def describe(tensors: Mapping[str, Tensor]) -> list[Description]:
    """Every group of a model: all blocks first, then blocks and branches in forward order, then other modules.

    A `TensorFile` is read in one pass through a buffer of constant size.

    >>> from adaln.models import MODELS, build
    >>> from adaln.rng import generator
    >>> from adaln.types import DataSpec
    >>> net = build(MODELS["tiny"], DataSpec(1, 8, 8, 10), generator("example"))
    >>> [d.group.name for d in describe(dict(net.named_parameters()))[:4]]
    ['shift', 'scale', 'gate', 'shift bias']
    """
    merged = sketches(tensors)
    order = list(merged)
    ordered = sorted(order, key=lambda g: (g.block is not None, g.depth or 0, g.branch is not None, order.index(g)))
    return [Description(group, summarise(merged[group])) for group in ordered]


def sketches(
    tensors: Mapping[str, Tensor], find_pieces: Callable[[Mapping[str, Tensor]], Iterable[Piece]] = pieces
) -> dict[Group, Sketch]:
    """The sketch of every group; tensors are read side by side, as many as torch has threads, with equal results."""
    by_tensor: dict[str, list[Piece]] = defaultdict(list)
    for piece in find_pieces(shapes(tensors)):
        by_tensor[piece.tensor].append(piece)

    def read(name: str) -> list[Sketch]:
        if isinstance(tensors, TensorFile):
            return [sketch_chunks(tensors.chunks(name, piece.rows)) for piece in by_tensor[name]]
        return [sketch(tensors[name][piece.rows]) for piece in by_tensor[name]]

    merged: dict[Group, Sketch] = defaultdict(Sketch)
    with _readers() as pool:
        for found, name in zip(pool.map(read, by_tensor), by_tensor, strict=True):
            for values, piece in zip(found, by_tensor[name], strict=True):
                for group in piece.groups:
                    merged[group] += values
    return dict(merged)


@contextmanager
def _readers() -> Iterator[ThreadPoolExecutor]:
    """As many threads as torch has, each computing alone: sharing out every small chunk costs more than it gains."""
    num_threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(num_threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield pool
    finally:
        torch.set_num_threads(num_threads)  # torch also keeps the number as the default of threads yet to come


class TensorFile(Mapping[str, Tensor]):
    """A safetensors file as a mapping that maps one tensor at a time into memory and lets go of it with the tensor.

    Mapping the file as a whole would keep every page that was read, a checkpoint's size in the end. `ValueError` in one
    line where the file is missing, cut short, or of another format.
    """

    def __init__(self, path: Path) -> None:
        if not is_whole(path):
            raise ValueError(f"{str(path)!r} is not a complete safetensors file")
        self.path = path
        with path.open("rb") as file:
            (header_bytes,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(header_bytes))
        self._data_start = 8 + header_bytes
        self._entries = {name: entry for name, entry in header.items() if entry.get("dtype") in _DTYPES}

    def __getitem__(self, name: str) -> Tensor:
        entry, dtype = self._entries[name], _DTYPES[self._entries[name]["dtype"]]
        begin, end = entry["data_offsets"]
        if begin == end:
            return torch.zeros(entry["shape"], dtype=dtype)
        offset = self._data_start + begin
        values = np.memmap(self.path, np.uint8, mode="c", offset=offset, shape=end - begin)  # "c": torch wants writable
        return torch.from_numpy(values).view(dtype).reshape(entry["shape"])

    def chunks(self, name: str, rows: slice) -> Iterator[Tensor]:
        """Rows of a tensor as flat chunks, all in one buffer: each is gone when the next is asked for."""
        entry, dtype = self._entries[name], _DTYPES[self._entries[name]["dtype"]]
        start, stop, _ = rows.indices(entry["shape"][0])
        row_bytes = prod(entry["shape"][1:]) * dtype.itemsize
        buffer = torch.empty(min((stop - start) * row_bytes // dtype.itemsize, CHUNK_ELEMENTS), dtype=dtype)
        bytes_left = (stop - start) * row_bytes
        with self.path.open("rb") as file:
            file.seek(self._data_start + entry["data_offsets"][0] + start * row_bytes)
            while bytes_left:
                view = buffer.view(torch.uint8).numpy().data[:bytes_left]
                file.readinto(view)
                yield buffer[: len(view) // dtype.itemsize]
                bytes_left -= len(view)

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def shapes(self) -> dict[str, Tensor]:
        """All tensors without their values, on the meta device."""
        return {name: torch.empty(entry["shape"], device="meta") for name, entry in self._entries.items()}


def shapes(tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """A mapping that answers questions about names and shapes without reading values."""
    return tensors.shapes() if isinstance(tensors, TensorFile) else tensors
