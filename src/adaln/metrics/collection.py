"""One pass over images: features in, statistics out. All that a score needs to know of one side."""

import hashlib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float32
from torch import Tensor

from adaln.metrics.features import Extractor, Features
from adaln.metrics.images import ImageStream
from adaln.metrics.moments import Gaussian, Moments

Progress = Callable[[str, int, int], None]
"""Called with (what is being done, done, in all)."""


Part = Literal["pool", "spatial", "pool_rows", "probs"]
"""What a score needs of a side, by the names of `Statistics`."""
PARTS: dict[Part, str] = {
    "pool": "pooled features",
    "spatial": "spatial features",
    "pool_rows": "features of single images",
    "probs": "class probabilities",
}


@dataclass(frozen=True, slots=True)
class Origin:
    """Which images these are."""

    name: str
    num_images: int
    """0 where statistics came without it, as ADM's do."""
    sha256: str
    """Of the pixels in order, whatever held them; of the file, where statistics came without their images."""


@dataclass(frozen=True, slots=True, eq=False)
class Statistics:
    """One side of a comparison. Parts that an extractor or a file does not have are None."""

    origin: Origin
    extractor: dict[str, object]
    """What `Extractor.describe` says; statistics of two extractors are never compared."""
    pool: Gaussian
    spatial: Gaussian | None = None
    pool_rows: Float32[Tensor, "N F"] | None = None
    spatial_rows: Float32[Tensor, "N S"] | None = None
    probs: Float32[Tensor, "N K"] | None = None

    @property
    def dim(self) -> int:
        """Number of pool features."""
        return len(self.pool.mean)


def collect(
    images: ImageStream,
    extractor: Extractor,
    *,
    needs: Collection[Part] = (),
    batch_size: int = 64,
    progress: Progress | None = None,
) -> Statistics:
    """Stream `images` through `extractor` once.

    Images are in memory one batch at a time; their features stay (20 KB per image with Inception, 1 GB for 50,000),
    for precision, recall, KID, the Inception Score and the intervals. An extractor without a part that is in `needs`
    is refused at the first batch, not after the last.
    """
    digest, rows = hashlib.sha256(), _Rows([], [], [])
    pool, spatial, done = None, None, 0
    for batch in images.batches(batch_size):
        if not done:
            digest.update(repr(tuple(batch.shape[1:])).encode())
        digest.update(batch.numpy().data)
        features = extractor(batch)
        if not done:
            _check_parts(features, needs, extractor)
        pool = _updated(pool, features.pool)
        spatial = _updated(spatial, features.spatial)
        rows.add(features)
        done += len(batch)
        if progress:
            progress(f"features of {images.name}", done, images.num_images)
    if pool is None or done < 2:
        raise ValueError(f"{images.name}: got {done} images, expected at least 2")
    return Statistics(
        Origin(images.name, done, digest.hexdigest()),
        extractor.describe(),
        pool.gaussian(),
        spatial.gaussian() if spatial else None,
        *rows.joined(),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Rows:
    """Rows kept so far, batch by batch."""

    pool: list[Tensor]
    spatial: list[Tensor]
    probs: list[Tensor]

    def add(self, features: Features) -> None:
        self.pool.append(features.pool)
        if features.probs is not None:
            self.probs.append(features.probs)
        if features.spatial is not None:
            self.spatial.append(features.spatial)

    def joined(self) -> tuple[Tensor, Tensor | None, Tensor | None]:
        spatial, probs = (torch.cat(rows) if rows else None for rows in (self.spatial, self.probs))
        return torch.cat(self.pool), spatial, probs


def check_one_extractor(ours: dict[str, object], theirs: dict[str, object]) -> None:
    """ValueError unless both descriptions are of one extractor with one set of weights."""
    if ours["fingerprint"] != theirs["fingerprint"]:
        got = " and ".join(f"{side['name']} ({str(side['fingerprint'])[:12]})" for side in (ours, theirs))
        raise ValueError(f"samples and reference have features of different extractors: {got}; expected one")


def _check_parts(features: Features, needs: Collection[Part], extractor: Extractor) -> None:
    for part in needs:
        if part in ("spatial", "probs") and getattr(features, part) is None:
            raise ValueError(f"extractor {extractor.name} gives no {PARTS[part]}, which a score asked for needs")


def _updated(moments: Moments | None, rows: Float32[Tensor, "B F"] | None) -> Moments | None:
    if rows is None:
        return moments
    moments = moments or Moments.empty(rows.shape[1])
    moments.update(rows)
    return moments
