"""Safetensors files, mapped instead of read and written whole or not at all."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from safetensors.numpy import save

from adaln.files import write_atomically

DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "|i1", "U8": "|u1"}
PAGE_BYTES = 65536
"""Of the largest pages of memory that machines use."""
HEADER_LIMIT_BYTES = 100_000_000
"""As the format says: a longer header is not read."""


def map_tensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays of a safetensors file, memory-mapped, and its metadata.

    Raises ValueError naming the file if it is cut short, not a safetensors file, or has a type that numpy lacks.
    Source: https://huggingface.co/docs/safetensors, section "Format".
    """
    with path.open("rb") as file:
        header, begin = read_header(path, file)
    metadata = header.pop("__metadata__", {})
    expected = begin + max((entry["data_offsets"][1] for entry in header.values()), default=0)
    found = path.stat().st_size
    if found != expected:
        raise ValueError(f"{path}: cut short or damaged, {found} bytes; expected {expected}")
    data = np.asarray(np.memmap(path, np.uint8, "r"))[begin:]
    return {name: as_array(path, name, data, entry) for name, entry in header.items()}, metadata


def read_header(path: Path, file: BinaryIO) -> tuple[dict[str, Any], int]:
    """The header as JSON and where the data begins."""
    num_bytes = int.from_bytes(file.read(8), "little")
    content = file.read(num_bytes) if num_bytes <= HEADER_LIMIT_BYTES else b""
    try:
        header = json.loads(content)
        if len(content) != num_bytes or any("data_offsets" not in header[name] for name in header if name[:2] != "__"):
            raise ValueError("no tensors")
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: cut short, or not a safetensors file") from error
    return header, 8 + num_bytes


def as_array(path: Path, name: str, data: np.ndarray, entry: Mapping[str, Any]) -> np.ndarray:
    dtype, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
    if dtype not in DTYPES:
        raise ValueError(f"{path}: tensor {name!r} is of type {dtype}; expected one of {', '.join(DTYPES)}")
    if end - begin != math.prod(shape) * np.dtype(DTYPES[dtype]).itemsize:
        raise ValueError(f"{path}: tensor {name!r} has {end - begin} bytes, which do not fit its shape {shape}")
    return data[begin:end].view(DTYPES[dtype]).reshape(shape)


def write_tensors(
    path: Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str], at_page: str | None = None
) -> None:
    """Write a safetensors file that is there completely or not at all, whenever the process is killed.

    The tensor `at_page` begins at a page of memory, so that it can be mapped alone.
    """
    content = save({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, dict(metadata))
    write_atomically(path, content if at_page is None else padded(content, at_page))


def padded(content: bytes, name: str) -> bytes:
    """The same file with blanks after the header, as the format allows, until `name` begins at a page."""
    num_bytes = int.from_bytes(content[:8], "little")
    header, data = content[8 : 8 + num_bytes], content[8 + num_bytes :]
    blanks = -(8 + num_bytes + json.loads(header)[name]["data_offsets"][0]) % PAGE_BYTES
    return b"".join(((num_bytes + blanks).to_bytes(8, "little"), header, b" " * blanks, data))


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file that is there completely or not at all."""
    write_atomically(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
