"""What a data set is once it can be read."""

import hashlib
import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, UInt8, UInt64
from numpy.typing import DTypeLike
from torch import Tensor

from adaln.types import DataSpec

SHOWN, SHOWN_LETTERS = 6, 40
"""Names and kinds in a line, and letters of a name."""


class Rows:
    """The rows of `parts`, each of a file, one after the other, read as numpy would: by number, slice or index array.

    Only what is asked for is read from disk; `np.asarray(rows)` reads all.
    """

    def __init__(self, parts: Sequence[np.ndarray], files: Sequence[Path] = ()) -> None:
        files = files or [Path(f"part {number}") for number in range(len(parts))]
        kinds = [f"{part.dtype} of the shape {part.shape[1:]}" for part in parts]
        for kind, file in zip(kinds, files, strict=True):
            if kind != kinds[0]:
                raise ValueError(f"{file}: holds rows of {kind}; expected {kinds[0]} as {files[0]}")
        self.parts, self.files = tuple(parts), tuple(files)
        self.starts = np.array([0, *itertools.accumulate(len(part) for part in parts)], np.int64)
        self._bytes = [part.reshape(-1).view(np.uint8).data for part in parts]

    def __len__(self) -> int:
        return int(self.starts[-1])

    def file_of(self, row: int) -> Path:
        """The file that holds a row."""
        return self.files[int(np.searchsorted(self.starts, row, side="right")) - 1]

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self), *self.parts[0].shape[1:])

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.parts[0].dtype

    def __getitem__(self, index: int | np.integer[Any] | slice | Int64[np.ndarray, "B"]) -> np.ndarray:
        if isinstance(index, slice):
            return self.gather(np.arange(len(self))[index])
        if isinstance(index, np.ndarray):
            return self.gather(index)
        row: np.ndarray = self.gather(np.array([index]))[0]
        return row

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> np.ndarray:
        return np.concatenate(self.parts).astype(dtype or self.dtype, copy=False)

    def gather(self, indices: Int64[np.ndarray, "B"]) -> np.ndarray:
        """The rows at `indices`, copied."""
        outside = indices[(indices < -len(self)) | (indices >= len(self))]
        if len(outside):
            raise IndexError(f"row {outside[0]} of {len(self)}")
        indices = indices % len(self)
        parts = np.searchsorted(self.starts, indices, side="right") - 1
        width = math.prod(self.shape[1:]) * self.dtype.itemsize
        begins = (indices - self.starts[parts]) * width
        rows = [self._bytes[k][begin : begin + width] for k, begin in zip(parts.tolist(), begins.tolist(), strict=True)]
        return np.frombuffer(bytearray().join(rows), self.dtype).reshape(len(indices), *self.shape[1:])


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """The rows of a data set that are learned from, and those that are not."""

    learned: Int64[np.ndarray, "L"]
    """Ascending."""
    held_out: Int64[np.ndarray, "H"]
    """By the hashes of their content: the first so many are the same items in whatever order the set lies."""
    hashes: UInt64[np.ndarray, "H"]
    """Of the items held out, ascending."""


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """Decoded images with their labels; large sets are memory-mapped."""

    name: str
    images: UInt8[np.ndarray, "N C H W"] | Rows
    """Bytes; `np.asarray` reads those of a sharded set into memory."""
    labels: Int64[np.ndarray, "N"]
    """Index into `class_names`; kept (for scoring) when the model is unconditional, all 0 when there are no classes."""
    class_names: tuple[str, ...]
    spec: DataSpec
    fingerprint: str
    """SHA-256 over pixels, labels and class names: equal sets are equal whatever they were stored in."""
    flip: bool = False
    skipped: tuple[str, ...] = ()
    """Images that could not be decoded and were left out, each with its reason."""
    passed_over: tuple[str, ...] = ()
    """What lay beside the images and is none of the set, a phrase for each kind: `2 .jfif (cat/0.jfif)`."""
    split: Split | None = None
    """None: all of it is learned from."""

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def content(self) -> np.ndarray | Rows:
        """A row per item: items of equal rows are one and the same."""
        return self.images

    def read(
        self, indices: Int64[np.ndarray, "B"], mirrored: Bool[np.ndarray, "B"], rngs: Iterable[torch.Generator]
    ) -> Float[Tensor, "B C H W"]:
        """The images at `indices` in [-1, 1], those that are to be `mirrored` left to right; nothing else is random."""
        pixels = torch.from_numpy(self.images[indices])
        if mirrored.any():
            pixels = torch.where(torch.from_numpy(mirrored)[:, None, None, None], pixels.flip(-1), pixels)
        return to_model_range(pixels)

    def file_of(self, row: int) -> Path | None:
        """The file that holds an item; None where all lie in one."""
        return self.images.file_of(row) if isinstance(self.images, Rows) else None

    def summary(self) -> str:
        """One line: how many pictures, which classes and how many each has at least, what was passed over, how
        large each is, how many are held out."""
        ignores = self.class_names and not self.spec.num_classes
        left = (*self.passed_over, *([f"{len(self.skipped):,} that cannot be decoded"] if self.skipped else ()))
        parts = [summary(self.labels, self.class_names, left)]
        parts += ["labels ignored: unconditional"] if ignores else []
        spec = self.spec
        parts.append(f"each {spec.height} x {spec.width}, {spec.channels} channel{'s' * (spec.channels > 1)}")
        if self.split:
            _, counts = np.unique(self.labels[self.split.held_out], return_counts=True)
            of_each = f", at least {counts.min():,} of each class" if self.spec.num_classes else ""
            parts.append(f"{len(self.split.held_out):,} held out{of_each}")
        return "; ".join(parts)

    def describe_latents(self) -> dict[str, Any] | None:
        """What a run must keep of its latents to decode its samples without the data; None for pixels."""
        return None


def spec_of(shape: tuple[int, ...], class_names: tuple[str, ...], conditional: bool) -> DataSpec:
    """What a network must know of items of `shape` (C, H, W)."""
    channels, height, width = shape
    return DataSpec(channels, height, width, num_classes=len(class_names) if conditional else 0)


def count_classes(labels: Int64[np.ndarray, "N"], class_names: tuple[str, ...]) -> dict[str, int]:
    """How many items each class has; empty without classes."""
    return dict(zip(class_names, np.bincount(labels, minlength=len(class_names)).tolist(), strict=False))


def summary(labels: Int64[np.ndarray, "N"], class_names: tuple[str, ...], passed_over: Sequence[str] = ()) -> str:
    """One line on a set: how many pictures, which classes and how many each has at least, what was passed over.

    >>> summary(np.array([2, 2, 1]), ("a", "b", "c"), ["2 .jfif (b/0.jfif)"])
    "3 pictures, 3 classes (a, b, c) of at least 1, but 1 of them without any ('a'); passed over: 2 .jfif (b/0.jfif)"
    """
    counts = count_classes(labels, class_names)
    empty = [name for name, count in counts.items() if not count]
    names = f" ({', '.join(map(in_line, class_names))})" if len(class_names) <= SHOWN else ""
    least = min(filter(None, counts.values()), default=0)
    what = f"{len(counts):,} class{'es' * (len(counts) != 1)}{names} of at least {least:,}"
    if not counts:
        what = "no classes: unconditional"
    elif empty:
        what += f", but {len(empty):,} of them without any ({', '.join(map(repr, empty[:SHOWN]))})"
    kinds = [*passed_over[:SHOWN], *([f"{len(passed_over) - SHOWN} more kinds"] if len(passed_over) > SHOWN else ())]
    left = f"; passed over: {', '.join(kinds)}" if kinds else ""
    return f"{len(labels):,} pictures, {what}{left}"


def in_line(name: str) -> str:
    """A name as it may stand in a line.

    >>> in_line("cat"), in_line("a\\nb")
    ('cat', "'a\\\\nb'")
    """
    return name[:SHOWN_LETTERS] if name.isprintable() else repr(name[:SHOWN_LETTERS])


def to_model_range(pixels: UInt8[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Bytes 0..255 as float32 in [-1, 1]: `v / 127.5 - 1`."""
    return pixels.to(torch.float32).div_(127.5).sub_(1.0)


def to_uint8(x: Float[Tensor, "*shape"]) -> UInt8[Tensor, "*shape"]:
    """Samples in [-1, 1] as bytes: `clamp(127.5 x + 128, 0, 255)`, truncated.

    The exact inverse of `to_model_range` (which lands on v + 0.5 before truncation). NaN becomes 0.

    Source: the sampling script of Peebles & Xie, "Scalable Diffusion Models with Transformers" (2023).
    """
    return (127.5 * x + 128.0).nan_to_num(0.0).clamp(0.0, 255.0).to(torch.uint8)


def row_digests(images: UInt8[np.ndarray, "N C H W"], labels: Int64[np.ndarray, "N"]) -> UInt8[np.ndarray, "N 32"]:
    """SHA-256 of each image with its label."""
    digests = [
        hashlib.sha256(image.tobytes() + label.to_bytes(8, "little")).digest()
        for image, label in zip(images, labels.tolist(), strict=True)
    ]
    return np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 32)


def fingerprint(digests: UInt8[np.ndarray, "N 32"], shape: tuple[int, ...], class_names: tuple[str, ...]) -> str:
    """The fingerprint of a set of `shape` from the digests of its rows, whatever shards they lie in."""
    return hashlib.sha256(repr((shape, class_names)).encode() + digests.tobytes()).hexdigest()
