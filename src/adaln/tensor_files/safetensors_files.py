"""Safetensors files: written, described by their header, and read one tensor, or a few rows of one, at a time."""

import errno
import json
import os
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from stat import S_IMODE
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from adaln.tensor_files.content import what_is
from adaln.types import as_rows

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""Types by their names in a safetensors header."""
FLOAT8 = {
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E4M3FNUZ": torch.float8_e4m3fnuz,
    "F8_E5M2FNUZ": torch.float8_e5m2fnuz,
}
"""Those that are stored only: read as bfloat16, which holds each of their values exactly."""


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write one safetensors file, to be read by whom the umask lets; `OSError` when the disk is full."""
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    path.touch()
    mode = S_IMODE(path.stat().st_mode)
    try:
        save_file(contiguous, path, dict(metadata or {}))
        path.chmod(mode)  # the library's own is for the owner alone
    except SafetensorError as error:
        raise OSError(f"cannot write {path}: {error}") from None


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file (memory-mapped); `ValueError` in one line where it is missing, cut short or foreign."""
    if not path.is_file():
        raise ValueError(f"checkpoint file {str(path)!r} does not exist")
    read_header(path)
    return load_file(path)


def is_whole(path: Path) -> bool:
    """Whether a safetensors file has a sound header and every byte that it promises; reads the header only.

    `PermissionError` where nothing of it may be read.
    """
    if path.exists() and not os.access(path, os.R_OK):  # the library says that there is no such file
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
    try:
        with safe_open(path, "pt"):
            return True
    except (OSError, RuntimeError, SafetensorError):  # torch opens the file once more: it may be gone by then
        return False


def read_header(path: Path) -> tuple[dict[str, Any], dict[str, str], int]:
    """Of a safetensors file the entries by tensor, the metadata, and how many bytes lie before the first tensor's.

    An entry has `dtype` (see `DTYPES`), `shape`, and `data_offsets` after those bytes. `ValueError` in one line where
    the file is not whole. Source: https://huggingface.co/docs/safetensors, section "Format".
    """
    if not is_whole(path):
        words = (path.is_file() and what_is(path)) or "truncated, or of another format"
        raise ValueError(f"{str(path)!r} is not a complete safetensors file ({words})")
    with path.open("rb") as file:
        num_bytes = int.from_bytes(file.read(8), "little")
        entries = json.loads(file.read(num_bytes))
    return entries, entries.pop("__metadata__", {}), 8 + num_bytes


def readable(tensor: Tensor) -> Tensor:
    """Float8 as bfloat16, exactly; all else as it is."""
    return tensor.bfloat16() if tensor.dtype in FLOAT8.values() else tensor


class TensorFile(Mapping[str, Tensor]):
    """One safetensors file, or the shards of a model, as a mapping that maps one tensor at a time into memory and lets
    go of it with the tensor.

    Mapping files as a whole would keep every page that was read, a checkpoint's size in the end. Of a tensor that is in
    several files `shards` says which is meant. `ValueError` in one line where a file is missing, cut short, or of
    another format.
    """

    def __init__(self, *paths: Path, shards: Mapping[str, Path] | None = None) -> None:
        self._places: dict[str, tuple[Path, int, torch.dtype]] = {}
        self.meta: dict[str, Tensor] = {}
        """Names, shapes and types, as they are read."""
        self.unread: dict[str, str] = {}
        """Types that are not read, by the name of the tensor."""
        for path in paths:
            entries, _, start = read_header(path)
            for name, entry in entries.items():
                if shards and shards.get(name, path) != path:
                    continue
                dtype = (DTYPES | FLOAT8).get(entry["dtype"])
                if dtype is None:
                    self.unread[name] = entry["dtype"]
                    continue
                self._places[name] = path, start + entry["data_offsets"][0], dtype
                as_read = torch.bfloat16 if entry["dtype"] in FLOAT8 else dtype
                self.meta[name] = torch.empty(entry["shape"], dtype=as_read, device="meta")

    @property
    def float8(self) -> set[str]:
        """Names of the tensors that are stored in eight bits."""
        return {name for name, (_, _, dtype) in self._places.items() if dtype in FLOAT8.values()}

    def under(self, names: Mapping[str, str]) -> "TensorFile":
        """Some of the tensors, each under another name: names here by the new ones."""
        chosen = TensorFile()
        chosen._places = {new: self._places[old] for new, old in names.items() if old in self._places}
        chosen.meta = {new: self.meta[old] for new, old in names.items() if old in self.meta}
        chosen.unread = {new: self.unread[old] for new, old in names.items() if old in self.unread}
        return chosen

    def __getitem__(self, name: str) -> Tensor:
        (path, begin, dtype), meta = self._places[name], self.meta[name]
        if not meta.numel():
            return torch.zeros_like(meta, device="cpu")
        num_bytes = meta.numel() * dtype.itemsize
        values = np.memmap(path, np.uint8, mode="c", offset=begin, shape=num_bytes)  # "c": torch wants writable
        return readable(torch.from_numpy(values).view(dtype).reshape(meta.shape))

    def chunks(self, name: str, rows: slice, num_elements: int) -> Iterator[Tensor]:
        """Rows of a tensor, counted as in `as_rows`, as flat chunks in one buffer: each is gone with the next."""
        (path, begin, dtype), shape = self._places[name], as_rows(self.meta[name]).shape
        start, stop, _ = rows.indices(shape[0])
        row_elements = prod(shape[1:])
        buffer = torch.empty(min((stop - start) * row_elements, num_elements), dtype=dtype)
        bytes_left = (stop - start) * row_elements * dtype.itemsize
        with path.open("rb") as file:
            file.seek(begin + start * row_elements * dtype.itemsize)
            while bytes_left:
                view = buffer.view(torch.uint8).numpy().data[:bytes_left]
                file.readinto(view)
                yield readable(buffer[: len(view) // dtype.itemsize])
                bytes_left -= len(view)

    def __iter__(self) -> Iterator[str]:
        return iter(self.meta)

    def __len__(self) -> int:
        return len(self.meta)


def shapes(tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """A mapping that answers questions about names, shapes and types without reading values (of a file: on meta)."""
    return tensors.meta if isinstance(tensors, TensorFile) else tensors
