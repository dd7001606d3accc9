"""One array whose rows lie in several memory-mapped files."""

import itertools
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from numpy.typing import DTypeLike
from torch import Tensor


class Rows:
    """The rows of `parts`, one after the other, read as numpy would: by number, slice or index array.

    Only what is asked for is read from disk; `np.asarray(rows)` reads all. `whole`: an array in which part k begins at
    row k * `slot_rows`; rows of all parts are then gathered in one call, by all of torch's threads.
    """

    def __init__(self, parts: Sequence[np.ndarray], whole: np.ndarray | None = None, slot_rows: int = 0) -> None:
        if len({(part.shape[1:], part.dtype) for part in parts}) != 1:
            raise ValueError(f"rows differ: {sorted({(part.shape[1:], str(part.dtype)) for part in parts})}")
        self.parts = tuple(parts)
        self.starts = np.array([0, *itertools.accumulate(len(part) for part in parts)], np.int64)
        self.whole = None if whole is None else as_tensor(whole)
        self.slot_rows = slot_rows

    def __len__(self) -> int:
        return int(self.starts[-1])

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self), *self.parts[0].shape[1:])

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.parts[0].dtype

    def __getitem__(self, index: int | np.integer[Any] | slice | Int64[np.ndarray, "B"]) -> np.ndarray:
        if isinstance(index, slice):
            return self.gather(np.arange(len(self))[index])
        if isinstance(index, np.ndarray):
            return self.gather(index)
        found: np.ndarray = self.gather(np.array([index]))[0]
        return found

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> np.ndarray:
        return np.concatenate(self.parts).astype(dtype or self.dtype, copy=False)

    def gather(self, indices: Int64[np.ndarray, "B"]) -> np.ndarray:
        """The rows at `indices`, copied."""
        outside = indices[(indices < -len(self)) | (indices >= len(self))]
        if len(outside):
            raise IndexError(f"row {outside[0]} of {len(self)}")
        indices = np.where(indices < 0, indices + len(self), indices)
        parts = np.searchsorted(self.starts, indices, side="right") - 1
        within = indices - self.starts[parts]
        if self.whole is not None:
            found: np.ndarray = self.whole.index_select(0, torch.from_numpy(parts * self.slot_rows + within)).numpy()
            return found
        rows = np.empty((len(indices), *self.shape[1:]), self.dtype)
        for place, (part, row) in enumerate(zip(parts.tolist(), within.tolist(), strict=True)):
            rows[place] = self.parts[part][row]
        return rows


def as_tensor(mapped: np.ndarray) -> Tensor:
    """The same memory as a tensor, only ever read from here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(mapped)
