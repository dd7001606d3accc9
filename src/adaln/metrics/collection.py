"""One pass over images: features in, statistics out. All that a score needs to know of one side."""

import hashlib
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal

import torch
from jaxtyping import Float32
from torch import Tensor

from adaln.metrics.features import Extractor, Features, Images
from adaln.metrics.images import ImageStream
from adaln.metrics.moments import Gaussian, Moments
from adaln.parallel import all_gather, rank, world
from adaln.progress import progress

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
    images: ImageStream, extractor: Extractor, *, needs: Collection[Part] = (), batch_size: int = 64
) -> Statistics:
    """Stream `images` through `extractor` once; the processes of torchrun share the work, and each gets all of it.

    Images are in memory one batch at a time; their features stay (20 KB per image with Inception, 1 GB for 50,000),
    for precision, recall, KID, the Inception Score and the intervals. An extractor without a part that is in `needs`
    is refused at the first batch, not after the last.
    """
    found = _Pass()
    for batch, features in with_features(images.batches(batch_size), extractor):
        if not found.num_images:
            _check_parts(features, needs, extractor)
        _check_finite(features, images, found.num_images)
        found.add(batch, features)
        progress(f"features of {images.name}", found.num_images, images.num_images, "images")
    return found.statistics(images.name, extractor)


def with_features(batches: Iterable[Images], extractor: Extractor) -> Iterator[tuple[Images, Features]]:
    """Each batch with its features, in order.

    Process r looks at batches r, r + world, ... and hears of the others', so that any number of processes sees the very
    numbers of one.
    """
    stream = iter(batches)
    while together := list(islice(stream, world())):
        own = extractor(together[rank()]) if rank() < len(together) else None
        for batch, features in zip(together, all_gather(own), strict=False):
            if features is not None:
                yield batch, features


@dataclass(slots=True, eq=False)
class _Pass:
    """What a pass over images has gathered so far."""

    num_images: int = 0
    digest: Any = field(default_factory=hashlib.sha256)
    moments: dict[str, Moments] = field(default_factory=dict)
    rows: dict[str, list[Tensor]] = field(default_factory=dict)

    def add(self, batch: Images, features: Features) -> None:
        """Take in a batch: its pixels' hash, its rows and their moments."""
        if not self.num_images:
            self.digest.update(repr(tuple(batch.shape[1:])).encode())
        self.digest.update(batch.numpy().data)
        self.num_images += len(batch)
        for part, rows in (("pool", features.pool), ("spatial", features.spatial), ("probs", features.probs)):
            if rows is None:
                continue
            self.rows.setdefault(part, []).append(rows)
            if part != "probs":
                self.moments.setdefault(part, Moments.empty(rows.shape[1])).update(rows)

    def statistics(self, name: str, extractor: Extractor) -> Statistics:
        """All of it, once the images are through."""
        if self.num_images < 2:
            raise ValueError(f"{name}: got {self.num_images} images, expected at least 2")
        rows = {part: torch.cat(kept) for part, kept in self.rows.items()}
        return Statistics(
            origin=Origin(name, self.num_images, self.digest.hexdigest()),
            extractor=extractor.describe(),
            pool=self.moments["pool"].gaussian(),
            spatial=self.moments["spatial"].gaussian() if "spatial" in self.moments else None,
            pool_rows=rows["pool"],
            spatial_rows=rows.get("spatial"),
            probs=rows.get("probs"),
        )


def check_one_extractor(ours: dict[str, object], theirs: dict[str, object]) -> None:
    """ValueError unless both descriptions are of one extractor with one set of weights."""
    if ours["fingerprint"] != theirs["fingerprint"]:
        got = " and ".join(f"{side['name']} ({str(side['fingerprint'])[:12]})" for side in (ours, theirs))
        raise ValueError(f"samples and reference have features of different extractors: {got}; expected one")


def _check_parts(features: Features, needs: Collection[Part], extractor: Extractor) -> None:
    for part in needs:
        if part in ("spatial", "probs") and getattr(features, part) is None:
            raise ValueError(f"extractor {extractor.name} gives no {PARTS[part]}, which a score asked for needs")


def _check_finite(features: Features, images: ImageStream, before: int) -> None:
    bad = (~torch.isfinite(features.pool).all(dim=1)).nonzero()
    if len(bad):
        raise ValueError(f"{images.name}: the features of image {before + int(bad[0])} are NaN or infinite")
