"""What a data set is once it has been decoded, and what a user may say about it."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
import tyro
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from adaln.data.pixels import to_model_range
from adaln.data.rows import Rows
from adaln.types import DataSpec


@dataclass(frozen=True, slots=True)
class DataConfig:
    """Which images a run learns from."""

    path: str = "digits"
    """`digits` (real 8x8 images, embedded), a folder, zip or tar of images, `hf:NAME`, or what `adaln encode` made.
    FOLDER#ATTRIBUTE: two classes by an attribute of CelebA."""
    size: int | None = None
    """Side in pixels after ADM's centre crop; None: the set's own size."""
    flip: bool = False
    """Mirror each image left to right with probability 1/2."""
    conditional: bool = True
    """False: ignore the labels and learn an unconditional model."""
    on_bad_image: Annotated[Literal["stop", "skip"], tyro.conf.arg(prefix_name=False)] = "stop"
    """At an image that cannot be decoded: stop with its name, or go on without it and report it."""


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

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: Int64[np.ndarray, "B"], rngs: Iterable[torch.Generator]) -> Float[Tensor, "B C H W"]:
        """The images at `indices` in [-1, 1], each mirrored as a generator of its own says if the set is to be."""
        pixels = torch.from_numpy(self.images[indices])
        if self.flip:
            pixels = torch.where(heads(rngs)[:, None, None, None], pixels.flip(-1), pixels)
        return to_model_range(pixels)


def heads(rngs: Iterable[torch.Generator]) -> Bool[Tensor, "B"]:
    """A fair coin from each generator."""
    return torch.cat([torch.rand(1, generator=rng) for rng in rngs]) < 0.5


def fingerprint(
    images: UInt8[np.ndarray, "N C H W"], labels: Int64[np.ndarray, "N"], class_names: tuple[str, ...]
) -> str:
    """SHA-256 over shape, class names and the digest of every row."""
    return fingerprint_of(row_digests(images, labels), images.shape, class_names)


def row_digests(images: UInt8[np.ndarray, "N C H W"], labels: Int64[np.ndarray, "N"]) -> UInt8[np.ndarray, "N 32"]:
    """SHA-256 of each image with its label."""
    digests = [
        hashlib.sha256(image.tobytes() + label.to_bytes(8, "little")).digest()
        for image, label in zip(images, labels.tolist(), strict=True)
    ]
    return np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 32)


def fingerprint_of(digests: UInt8[np.ndarray, "N 32"], shape: tuple[int, ...], class_names: tuple[str, ...]) -> str:
    """The fingerprint of a set of `shape` from the digests of its rows, whatever shards they lie in."""
    return hashlib.sha256(repr((shape, class_names)).encode() + digests.tobytes()).hexdigest()
