"""Many files side by side in the address space, so that rows of all of them are gathered in one call.

A Python loop over the rows of a batch, each from its own mapping, costs as much again as copying them.
"""

import ctypes
import math
import mmap
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
MAP_FIXED = 0x10
"""The same on Linux and macOS; Python's `mmap` has no name for it."""

HUGE_PAGE_BYTES = 2**21
"""Address and place in the file agree modulo this, so that larger pages can serve: a tenth faster where they do."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Rows that lie one after the other in a file."""

    path: Path
    begin_bytes: int
    num_rows: int


def map_side_by_side(
    stretches: Sequence[Stretch], row_shape: tuple[int, ...], dtype: DTypeLike
) -> tuple[np.ndarray, int] | None:
    """One read-only array over all stretches, and the number of its rows from one beginning to the next.

    What lies between the end of a stretch and the beginning of the next one is not to be read. None where a stretch
    does not begin at a page of memory, as those of `write_tensors` do.
    """
    if any(stretch.begin_bytes % mmap.PAGESIZE for stretch in stretches):
        return None
    row_bytes = math.prod(row_shape) * np.dtype(dtype).itemsize
    step = mmap.PAGESIZE // math.gcd(mmap.PAGESIZE, row_bytes)
    slot_rows = -(-max(stretch.num_rows for stretch in stretches) // step) * step
    slot_bytes = slot_rows * row_bytes
    num_bytes = len(stretches) * slot_bytes
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    reserved = np.frombuffer(mmap.mmap(-1, num_bytes + HUGE_PAGE_BYTES, flags, mmap.PROT_READ), np.uint8)
    skipped = (stretches[0].begin_bytes - reserved.ctypes.data) % HUGE_PAGE_BYTES
    whole = reserved[skipped:][:num_bytes]  # keeps the mapping, whose end unmaps all that is laid over it
    for number, stretch in enumerate(stretches):
        lay_over(whole.ctypes.data + number * slot_bytes, stretch, stretch.num_rows * row_bytes)
    return whole.view(dtype).reshape(-1, *row_shape), slot_rows


def lay_over(address: int, stretch: Stretch, num_bytes: int) -> None:
    """Map a part of a file at an address that is ours. Raises OSError with the file's name."""
    descriptor = os.open(stretch.path, os.O_RDONLY)
    try:
        flags = mmap.MAP_SHARED | MAP_FIXED
        found = _libc.mmap(address, num_bytes, mmap.PROT_READ, flags, descriptor, stretch.begin_bytes)
    finally:
        os.close(descriptor)
    if found != address:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(stretch.path))
