"""One array whose rows lie in several memory-mapped files."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int64
from numpy.typing import DTypeLike


class Rows:
    """The rows of `parts`, one after the other, read as numpy would: by number, slice or index array.

    Only what is asked for is read from disk; `np.asarray(rows)` reads all. `whole`: an array in which part k begins at
    row k * `slot_rows`; rows of all parts are then gathered in one call instead of a loop.
    """

    def __init__(self, parts: Sequence[np.ndarray], whole: np.ndarray | None = None, slot_rows: int = 0) -> None:
        if len({(part.shape[1:], part.dtype) for part in parts}) != 1:
            raise ValueError(f"rows differ: {sorted({(part.shape[1:], str(part.dtype)) for part in parts})}")
        self.parts = tuple(parts)
        self.starts = np.array([0, *itertools.accumulate(len(part) for part in parts)], np.int64)
        self.slots = slot_rows * np.arange(len(parts))
        self.is_gapless = bool((self.starts[:-1] == self.slots).all())
        self.whole = whole[: len(self)] if whole is not None and self.is_gapless else whole

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
        if self.whole is not None and self.is_gapless:
            return self.whole.take(indices, axis=0)
        if len(indices) and not -len(self) <= indices.min() <= indices.max() < len(self):
            outside = indices[(indices < -len(self)) | (indices >= len(self))]
            raise IndexError(f"row {outside[0]} of {len(self)}")
        indices = indices % len(self)
        parts = np.searchsorted(self.starts, indices, side="right") - 1
        if self.whole is not None:
            return self.whole.take(indices - self.starts[parts] + self.slots[parts], axis=0)
        rows = np.empty((len(indices), *self.shape[1:]), self.dtype)
        for place, (part, index) in enumerate(zip(parts.tolist(), indices.tolist(), strict=True)):
            rows[place] = self.parts[part][index - self.starts[part]]
        return rows
