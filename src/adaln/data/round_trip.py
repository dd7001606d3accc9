"""Decode some of what was encoded and hold it against the pictures."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64, UInt8

from adaln.data.autoencoder import Autoencoder
from adaln.data.dataset import DataConfig, row_digests
from adaln.data.open import open_source
from adaln.data.pictures import decode
from adaln.data.shard_files import ShardSet, open_shards


@dataclass(frozen=True, slots=True, eq=False)
class RoundTrip:
    """Pictures beside what the autoencoder makes of their latents."""

    originals: UInt8[np.ndarray, "n 3 H W"]
    decoded: UInt8[np.ndarray, "n 3 H W"]
    rmse: float
    """In grey levels of 0..255."""
    psnr_db: float


def round_trip(config: DataConfig, folder: Path, autoencoder: Autoencoder, num_images: int = 16) -> RoundTrip:
    """Decode the posterior means of evenly spread pictures of the set in `folder`, encoded from `config`.

    Raises ValueError if the autoencoder or one of the pictures is not the one that was used.
    """
    shards = open_shards(folder)
    space = shards.index.plan.space
    if space is None:
        raise ValueError(f"{folder}: holds images, which need no decoding; expected latents")
    rows = np.unique(np.linspace(0, len(shards.labels) - 1, num_images).astype(np.int64))
    originals = read_again(config, shards, rows)
    means = torch.from_numpy(shards.rows[shards.index.plan.flips * rows][:, 0]).float()
    decoded = autoencoder.decode((means - space.shift_factor) * space.scaling_factor, space).numpy()
    rmse = float(np.sqrt(np.square(originals.astype(np.float64) - decoded).mean()))
    return RoundTrip(originals, decoded, rmse, 20 * math.log10(255 / rmse) if rmse else math.inf)


def read_again(config: DataConfig, shards: ShardSet, rows: Int64[np.ndarray, "n"]) -> UInt8[np.ndarray, "n 3 H W"]:
    """The pictures of these rows, from the source; they must be those that were encoded."""
    source = open_source(config.path)
    names = kept_names(source.names, shards.index.skipped)
    images = np.stack([decode(source.read(names[row]), shards.index.plan.size, "RGB") for row in rows])
    for row, digest, now in zip(rows, shards.digests[rows], row_digests(images, shards.labels[rows]), strict=True):
        if (digest != now).any():
            raise ValueError(f"{source.path}: {names[row]} is not the image that was encoded as row {row}")
    return images


def kept_names(names: list[str], skipped: tuple[str, ...]) -> list[str]:
    """Names without those that `skipped` (in the same order, each with its reason) begins with."""
    left, kept = list(reversed(skipped)), []
    for name in names:
        if left and left[-1].startswith(f"{name}: "):
            left.pop()
        else:
            kept.append(name)
    return kept
