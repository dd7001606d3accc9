"""What a data set is once it has been decoded, and what a user may say about it."""

import hashlib
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from adaln.data.pixels import to_model_range
from adaln.types import DataSpec


@dataclass(frozen=True, slots=True)
class DataConfig:
    """Which images a run learns from."""

    path: str = "digits"
    """`digits` (1,797 real 8x8 images, embedded), or a folder or zip of images (one folder per class, or flat)."""
    size: int | None = None
    """Side in pixels after ADM's centre crop; None: the set's own size."""
    flip: bool = False
    """Mirror each image left to right with probability 1/2."""
    conditional: bool = True
    """False: ignore the labels and learn an unconditional model."""
    on_bad_image: Literal["stop", "skip"] = "stop"
    """What to do at an image that cannot be decoded."""


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """Decoded images with their labels; large sets are memory-mapped."""

    name: str
    images: UInt8[np.ndarray, "N C H W"]
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
        return len(self.images)

    def take(self, indices: Int64[np.ndarray, "B"], rng: torch.Generator) -> Float[Tensor, "B C H W"]:
        """The images at `indices` in [-1, 1], mirrored at random if the set says so."""
        pixels = torch.from_numpy(self.images[indices])
        if self.flip:
            mirrored = torch.rand(len(indices), generator=rng) < 0.5
            pixels = torch.where(mirrored[:, None, None, None], pixels.flip(-1), pixels)
        return to_model_range(pixels)


def fingerprint(
    images: UInt8[np.ndarray, "N C H W"], labels: Int64[np.ndarray, "N"], class_names: tuple[str, ...]
) -> str:
    """SHA-256 over what a set holds: shape, class names, labels, pixels."""
    digest = hashlib.sha256(repr((images.shape, class_names)).encode())
    digest.update(labels.astype("<i8").tobytes())
    for start in range(0, len(images), 1024):  # in pieces: the set may be larger than memory
        digest.update(images[start : start + 1024].tobytes())
    return digest.hexdigest()
