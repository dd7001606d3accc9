"""All that a score needs to know of one side: one pass over images, features in, statistics out; and such statistics on
disk, our own npz files and ADM's, under the same keys."""

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypeGuard

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from adaln.codec import decode, encode
from adaln.data.pictures import several_frames
from adaln.files import atomic_file, file_sha256, reading
from adaln.metrics.features import Extractor, Features, Images
from adaln.metrics.frechet import FeatureMoments, Gaussian, as_covariance
from adaln.metrics.images import ARRAY, ImagesLike, ImageStream, is_npz, open_images
from adaln.parallel import all_gather, rank, world
from adaln.progress import progress
from adaln.tensor_files import Npz

Part = Literal["pool", "spatial", "pool_rows", "probs"]
"""What a score needs of a side, by the names of `Statistics`."""
PARTS: dict[str, str] = {
    "pool": "pooled features",
    "spatial": "spatial features",
    "pool_rows": "features of single images",
    "probs": "class probabilities",
}
METADATA = "adaln"
"""Key of our JSON beside ADM's mu, sigma, mu_s, sigma_s."""
FORMAT = 1


@dataclass(frozen=True, slots=True)
class Origin:
    """Which images these are."""

    name: str
    num_images: int
    """0 where statistics came without it, as ADM's do."""
    sha256: str
    """Of the pixels in order, whatever held them; of the file, where statistics came without their images."""
    shape: tuple[int, ...] = ()
    """(C, H, W) of the images; empty where statistics came without."""
    passed_over: tuple[str, ...] = ()
    """What lay beside the images and is none of them, a phrase for each kind: `2 .txt (a.txt)`."""


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
    images: frozenset[bytes] = frozenset()
    """A hash of the pixels of each image, where these were at hand."""

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
    totals = _Pass()
    for batch, features in with_features(images.batches(batch_size), extractor):
        for part in needs:
            if part in ("spatial", "probs") and getattr(features, part) is None:
                raise ValueError(f"extractor {extractor.name} gives no {PARTS[part]}, which a score asked for needs")
        totals.check(images.name, features)
        totals.add(batch, features)
        progress(f"features of {images.name}", totals.num_images, images.num_images, "images")
    return totals.statistics(images, extractor)


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
    shape: tuple[int, ...] = ()
    digest: Any = field(default_factory=hashlib.sha256)
    images: set[bytes] = field(default_factory=set)
    moments: dict[str, FeatureMoments] = field(default_factory=dict)
    rows: dict[str, list[Tensor]] = field(default_factory=dict)

    def check(self, name: str, features: Features) -> None:
        """ValueError for features without finite squares, and for another number of them than the images before had."""
        for part, rows in features.parts.items():
            width = self.rows.get(part, [rows])[0].shape[1]
            if rows.shape[1] != width:
                got = f"{rows.shape[1]:,} {PARTS[part]} of image {self.num_images}, {width:,} of each before"
                raise ValueError(f"{name}: {got}; expected as many of every image")
            bad = (~torch.isfinite(rows.square().sum(dim=1))).nonzero()
            if len(bad):
                image = self.num_images + int(bad[0])
                raise ValueError(
                    f"{name}: the {PARTS[part]} of image {image} are NaN, infinite or too large for their squares"
                )

    def add(self, batch: Images, features: Features) -> None:
        """Take in a batch: its pixels' hash, its rows and their moments."""
        if not self.num_images:
            self.shape = tuple(batch.shape[1:])
            self.digest.update(repr(self.shape).encode())
        self.digest.update(batch.numpy().data)
        self.images |= {hashlib.blake2b(image.data, digest_size=16).digest() for image in batch.numpy()}
        self.num_images += len(batch)
        for part, rows in features.parts.items():
            self.rows.setdefault(part, []).append(rows)
            if part != "probs":
                self.moments.setdefault(part, FeatureMoments.empty(rows.shape[1])).update(rows)

    def statistics(self, images: ImageStream, extractor: Extractor) -> Statistics:
        """All of it, once the images are through."""
        if self.num_images < 2:
            raise ValueError(f"{images.name}: got {self.num_images} images, expected at least 2")
        rows = {part: torch.cat(kept) for part, kept in self.rows.items()}
        left = (*images.passed_over, *several_frames(images.several))
        return Statistics(
            origin=Origin(images.name, self.num_images, self.digest.hexdigest(), self.shape, left),
            extractor=extractor.describe(),
            pool=self.moments["pool"].gaussian(),
            spatial=self.moments["spatial"].gaussian() if "spatial" in self.moments else None,
            pool_rows=rows["pool"],
            spatial_rows=rows.get("spatial"),
            probs=rows.get("probs"),
            images=frozenset(self.images),
        )


def check_one_extractor(samples: dict[str, object], reference: dict[str, object]) -> None:
    """ValueError unless both descriptions are of one extractor with one set of weights."""
    if any(samples[key] != reference[key] for key in ("name", "fingerprint")):  # one module may hold several
        got = " and ".join(f"{side['name']} ({str(side['fingerprint'])[:12]})" for side in (samples, reference))
        raise ValueError(f"samples and reference have features of different extractors: {got}; expected one")


def is_statistics(source: ImagesLike) -> TypeGuard[str | Path]:
    """Whether `source` is an npz file with ADM's key `mu`, or `sigma`. Raises ValueError where it is no npz."""
    if not isinstance(source, str | Path):
        return False
    path = Path(source)
    return path.is_file() and is_npz(path) and not {"mu", "sigma"}.isdisjoint(Npz.open(path).names)


@dataclass(frozen=True, slots=True)
class StatisticsFile:
    """A file of statistics, ours or ADM's, still to be read."""

    path: Path

    @property
    def extractor(self) -> dict[str, Any]:
        """What it says of the extractor it was made with; of ADM's files only the name is known."""
        ours = _metadata(Npz.open(self.path))
        return ours[0] if ours else {"name": "inception"}


def save_statistics(statistics: Statistics, path: Path, *, rows: bool = True) -> None:
    """Write statistics that `load_statistics`, and ADM's evaluator, can read; the file appears complete or not at all.

    `rows` keeps the features of single images, which precision and recall need.
    """
    arrays = {"mu": statistics.pool.mean.numpy(), "sigma": statistics.pool.covariance.numpy()}
    if statistics.spatial is not None:
        arrays |= {"mu_s": statistics.spatial.mean.numpy(), "sigma_s": statistics.spatial.covariance.numpy()}
    for name in ("pool_rows", "probs") if rows else ():
        if getattr(statistics, name) is not None:
            arrays[name] = getattr(statistics, name).numpy()
    metadata = {"format": FORMAT, "extractor": statistics.extractor, "origin": encode(statistics.origin)}
    arrays[METADATA] = np.array(json.dumps(metadata))
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]  # the stub takes them for `allow_pickle`


def load_statistics(path: str | Path, extractor: Extractor, *, batch_size: int = 64) -> Statistics:
    """The statistics in `path`.

    ADM's reference files hold statistics of the whole data set beside 10,000 images: FID and sFID use the statistics
    and the images are run through `extractor` for precision and recall, as ADM's evaluator does. Such statistics do
    not say which network they are of, so they are taken for Inception's and refused with any other.
    """
    path = Path(path)
    npz = Npz.open(path)
    pool, spatial = _gaussian(npz, "mu", "sigma"), _gaussian(npz, "mu_s", "sigma_s")
    if pool is None:
        raise ValueError(f"{path}: has neither 'mu' nor 'sigma', expected both")
    if ours := _metadata(npz):
        rows, probs = _rows(npz, "pool_rows", len(pool.mean)), _rows(npz, "probs", None)
        for name, of_images in (("pool_rows", rows), ("probs", probs)):
            if of_images is not None and len(of_images) != ours[1].num_images:
                raise ValueError(f"{path}: {name!r} has {len(of_images)} rows for {ours[1].num_images} images")
        return Statistics(ours[1], ours[0], pool, spatial, rows, probs=probs)
    if extractor.name != "inception":
        raise ValueError(f"{path}: precomputed statistics of Inception features, got extractor {extractor.name!r}")
    origin = Origin(str(path), 0, file_sha256(path))
    if ARRAY not in npz.names:
        return Statistics(origin, extractor.describe(), pool, spatial)
    images = collect(open_images(path), extractor, batch_size=batch_size)
    origin = replace(origin, shape=images.origin.shape)
    return Statistics(origin, images.extractor, pool, spatial, images.pool_rows, images.spatial_rows, images.probs)


def check_one_width(sides: Sequence[tuple[str, Statistics]]) -> None:
    """ValueError unless both sides, each with its name, have equally many features."""
    for part in ("pool", "spatial"):
        widths = {name: len(known.mean) for name, side in sides if (known := getattr(side, part)) is not None}
        if len(set(widths.values())) > 1:
            got = ", ".join(f"{name}: {width:,}" for name, width in widths.items())
            raise ValueError(f"{got} {PARTS[part]}; expected as many on both sides")


def _metadata(npz: Npz) -> tuple[dict[str, Any], Origin] | None:
    """The extractor and the images of a file of ours; None for one of ADM's."""
    if METADATA not in npz.names:
        return None
    with reading(npz.path, "a file of statistics"):
        about = json.loads(str(npz.array(METADATA)))
        if about["format"] != FORMAT:
            raise ValueError(f"its format is {about['format']}, expected {FORMAT}; make it anew")
        extractor = about["extractor"]
        if not all(isinstance(extractor[key], str) for key in ("name", "label", "fingerprint")):
            raise ValueError(f"its extractor is {extractor}")
        origin = decode(Origin, about["origin"])
        if origin.num_images < 2:
            raise ValueError(f"it is of {origin.num_images} images")
        return {**extractor, "details": dict(extractor["details"])}, origin


def _rows(npz: Npz, name: str, width: int | None) -> Float32[Tensor, "N F"] | None:
    """Features or probabilities of single images; None where the file has none."""
    if name not in npz.names:
        return None
    shape, dtype = npz.header(name).shape, npz.header(name).dtype
    if dtype.kind != "f" or len(shape) != 2 or not shape[0] or shape[1] != (width or shape[1]):
        raise ValueError(f"{npz.path}: '{name}' is {dtype} {shape}, expected numbers (N, {width or 'K'})")
    with np.errstate(over="ignore"):  # what is too large is refused as infinite
        rows = torch.from_numpy(npz.array(name).astype(np.float32))
    if not torch.isfinite(rows).all():
        raise ValueError(f"{npz.path}: '{name}' has NaN or infinite entries")
    return rows


def _gaussian(npz: Npz, mean: str, covariance: str) -> Gaussian | None:
    if mean not in npz.names and covariance not in npz.names:
        return None
    for name, other in ((mean, covariance), (covariance, mean)):
        if name not in npz.names:
            raise ValueError(f"{npz.path}: has {other!r} but no {name!r}, expected both")
        if (dtype := npz.header(name).dtype).kind != "f":
            raise ValueError(f"{npz.path}: '{name}' is {dtype}, expected floating-point numbers")
    of_mean, of_covariance = npz.header(mean).shape, npz.header(covariance).shape
    if len(of_mean) != 1 or not of_mean[0] or of_covariance != of_mean * 2:
        raise ValueError(f"{npz.path}: '{mean}' {of_mean} and '{covariance}' {of_covariance}: expected (F,) and (F, F)")
    mu, sigma = (torch.from_numpy(npz.array(name).astype(np.float64)) for name in (mean, covariance))
    if not torch.isfinite(mu).all():
        raise ValueError(f"{npz.path}: '{mean}' has NaN or infinite entries, expected the mean of features")
    try:
        return Gaussian(mu, as_covariance(sigma))
    except ValueError as error:
        raise ValueError(f"{npz.path}: '{covariance}' {error}; expected a covariance") from None
