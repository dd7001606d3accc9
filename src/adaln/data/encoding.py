"""Images -> shards of bytes or of autoencoder moments: many processes, killed at any moment, the same set in the end.

Shard k holds pictures k * shard_rows up to (k + 1) * shard_rows, rank r makes the shards k with k mod world = r, and a
shard is there completely or not at all. What is there is never made again, so there are neither holes nor duplicates.
"""

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import zip_longest
from pathlib import Path

import numpy as np
import PIL
import torch
from jaxtyping import Float16, UInt8

from adaln.codec import decode
from adaln.data.autoencoder import Autoencoder
from adaln.data.config import DataConfig
from adaln.data.dataset import row_digests, summary, to_model_range
from adaln.data.formats import open_source
from adaln.data.pictures import Decoding, Mode, Source, stored_mode
from adaln.data.shard_files import (
    PLAN,
    Index,
    Plan,
    read_shard,
    sha256_of,
    shard_name,
    write_index,
    write_json,
    write_shard,
)
from adaln.files import about, claimed, expanded, locked, reading
from adaln.progress import note, progress

SHARD_BYTES = 2**25
"""Rows of a shard fill about this much: what a kill can cost, and little enough to write at once."""
TIMED = 4
"""Pictures on which a dry run finds how long one takes, after one more that warms everything up."""


@dataclass(frozen=True, slots=True)
class Encoding:
    """One encoding in one process."""

    source: Source
    plan: Plan
    mode: Mode
    out: Path
    autoencoder: Autoencoder | None
    batch_size: int
    first: tuple[int, tuple[int, ...]]
    """Number and shape of the first picture that can be decoded; all others must have its shape."""


Pictures = tuple[UInt8[np.ndarray, "n C H W"], Decoding]
"""The decoded part of a source that goes into one shard, and which pictures these are."""


def encode(
    config: DataConfig,
    out: Path,
    autoencoder: Autoencoder | None = None,
    *,
    flips: bool = True,
    rank: int = 0,
    world: int = 1,
    batch_size: int = 32,
    shard_rows: int | None = None,
) -> Index | None:
    """Encode this rank's part of the pictures into `out`; the index if the set is complete, else None.

    Without autoencoder the shards hold the cropped pictures in bytes. `flips`: moments of the mirror images too. Of the
    config, `path`, `size` and `on_bad_image` count; `flip` and `conditional` are chosen anew when the set is loaded.
    Progress counts this rank's pictures, first those that were there. Raises ValueError if another
    encoder is writing to `out` or what lies there was begun with other settings.
    """
    encoding = prepare(config, out, autoencoder, flips, batch_size, shard_rows)
    out.mkdir(parents=True, exist_ok=True)
    with claimed(out / f".rank-{rank}.lock", f"{out}: another encoder is writing here"):
        settle(out, encoding.plan)
        source = encoding.source
        note(f"{config.path}: {summary(source.labels, source.class_names, source.passed_over)}")
        shards = range(rank, encoding.plan.num_shards, world)
        missing = [shard for shard in shards if not is_made(out / shard_name(shard), encoding.plan)]
        total = sum(len(encoding.plan.pictures(shard)) for shard in shards)
        done = total - sum(len(encoding.plan.pictures(shard)) for shard in missing)

        def show(more: int) -> None:
            progress(f"encode {out}", done + more, total, "images")

        show(0)
        for shard, pictures in decoded_ahead(encoding, missing):
            make_shard(encoding, shard, pictures, show)
            done += len(encoding.plan.pictures(shard))
            show(0)
        origin = autoencoder.origin if autoencoder else ""
        return write_index(out, encoding.plan, set(source.labels.tolist()), origin, source.passed_over)


@dataclass(frozen=True, slots=True)
class Foreseen:
    """What an encoding is still to do, in one process."""

    num_images: int
    missing: int
    """Of them; the others' shards are there."""
    seconds: float
    disk_bytes: int
    """Of all shards, those that are there too."""


def foreseen(
    config: DataConfig,
    out: Path,
    autoencoder: Autoencoder | None = None,
    *,
    flips: bool = True,
    batch_size: int = 32,
    shard_rows: int | None = None,
) -> Foreseen:
    """Of `encode` with these arguments, timed on the first pictures; nothing is written. Raises what it raises."""
    encoding = prepare(config, out, autoencoder, flips, batch_size, shard_rows)
    plan = encoding.plan
    check_plan(out, plan)
    missing = [shard for shard in range(plan.num_shards) if not is_made(out / shard_name(shard), plan)]

    def seconds_of_each(count: int) -> float:
        start, first = time.perf_counter(), encoding.first[0]
        decoding = Decoding(encoding.source, plan.size, encoding.mode, True, encoding.first)
        images = np.stack([*decoding.images(range(first, min(first + count, plan.num_images)))])
        if autoencoder:
            moments(images, autoencoder, plan.flips, batch_size, lambda done: None)
        return (time.perf_counter() - start) / len(images)

    seconds_of_each(1)
    left = sum(len(plan.pictures(shard)) for shard in missing)
    row_bytes = math.prod(row_shape(plan.image_shape, autoencoder, plan.flips)) * (2 if autoencoder else 1)
    return Foreseen(plan.num_images, left, left * seconds_of_each(TIMED), plan.num_images * row_bytes)


def check_is_apart(out: Path, source: str) -> None:
    """`ValueError` where shards would lie among the pictures, or among what somebody else keeps there."""
    if out.resolve().is_relative_to(expanded(source).resolve()) and expanded(source).is_dir():
        raise ValueError(f"{str(out)!r} lies in the set that is encoded, {source!r}; expected a folder beside it")
    others = [path.name for path in out.iterdir() if not path.name.startswith(".")] if out.is_dir() else []
    if others and not (out / PLAN).exists():
        raise ValueError(
            f"{out}: holds other files ({others[0]}); expected an empty folder or an encoding to go on with"
        )


def prepare(
    config: DataConfig, out: Path, autoencoder: Autoencoder | None, flips: bool, batch_size: int, shard_rows: int | None
) -> Encoding:
    """Look at the source and write down what its encoding will hold; ValueError for what cannot be encoded there."""
    for name, count in (("size", config.size), ("batch_size", batch_size), ("shard_rows", shard_rows)):
        if count is not None and count < 1:
            raise ValueError(f"{name} is {count}; expected a whole number >= 1")
    check_is_apart(out, config.path)
    source = open_source(config.path)
    mode = "RGB" if autoencoder else stored_mode(source)
    decoding = Decoding(source, config.size, mode, config.on_bad_image == "skip")
    next(decoding.images(), None)
    first = decoding.first_kept()
    num_flips = 2 if autoencoder and flips else 1
    with about(source.path):
        num_bytes = math.prod(row_shape(first[1], autoencoder, num_flips)) * (2 if autoencoder else 1)
    sizes = [(name, size) for name, (size, _) in zip(source.names, source.stamps, strict=True)]
    listing = json.dumps([sizes, source.labels.tolist(), source.class_names])  # no times: a copy is the same source
    plan = Plan(
        source=source.path.name,
        source_sha256=hashlib.sha256(listing.encode()).hexdigest(),
        num_images=len(source.names),
        class_names=source.class_names,
        size=config.size,
        image_shape=first[1],
        on_bad_image=config.on_bad_image,
        decoder=f"Pillow {PIL.__version__}",
        shard_rows=shard_rows or max(1, SHARD_BYTES // num_bytes),
        flips=num_flips,
        space=autoencoder.space if autoencoder else None,
    )
    return Encoding(source, plan, mode, out, autoencoder, batch_size, first)


def row_shape(shape: tuple[int, ...], autoencoder: Autoencoder | None, flips: int) -> tuple[int, ...]:
    """What a shard holds of one picture; checks that the autoencoder takes such pictures."""
    if autoencoder is None:
        return shape
    _, height, width = shape
    factor = autoencoder.downsampling
    if height % factor or width % factor:
        raise ValueError(f"images are {height}x{width}; the autoencoder takes multiples of {factor}: set a size")
    return (flips, 2, autoencoder.latent_channels, height // factor, width // factor)


def settle(out: Path, plan: Plan) -> None:
    """Begin an empty folder with the plan, or find the same plan there."""
    with locked(out / ".plan.lock"):
        check_plan(out, plan)
        if not (out / PLAN).exists():
            write_json(out / PLAN, asdict(plan))


def check_plan(out: Path, plan: Plan) -> None:
    """ValueError where the folder was begun with another plan."""
    if not (path := out / PLAN).exists():
        return
    with reading(path, "the plan of an encoding"):
        begun = asdict(decode(Plan, json.loads(path.read_text())))
    differing = [f"{name} {begun[name]!r}, now {v!r}" for name, v in asdict(plan).items() if begun[name] != v]
    if differing:
        raise ValueError(f"{out}: begun with other settings ({'; '.join(differing)}); choose another folder")


def is_made(path: Path, plan: Plan) -> bool:
    """Whether a shard of this plan is there whole."""
    try:
        return path.exists() and read_shard(path)[1]["plan"] == plan.sha256
    except ValueError:
        return False


def decoded_ahead(encoding: Encoding, shards: list[int]) -> Iterator[tuple[int, Pictures]]:
    """The pictures of each shard; those of the next one are decoded while the caller encodes."""
    with ThreadPoolExecutor(1) as pool:
        coming = [pool.submit(decode_shard, encoding, shard) for shard in shards[:1]]
        for shard, following in zip_longest(shards, shards[1:]):
            pictures = coming.pop().result()
            if following is not None:
                coming.append(pool.submit(decode_shard, encoding, following))
            yield shard, pictures


def decode_shard(encoding: Encoding, shard: int) -> Pictures:
    """The pictures of a shard that can be decoded."""
    plan, part = encoding.plan, encoding.plan.pictures(shard)
    decoding = Decoding(encoding.source, plan.size, encoding.mode, plan.on_bad_image == "skip", encoding.first)
    images = np.empty((len(part), *plan.image_shape), np.uint8)
    for row, image in enumerate(decoding.images(part)):
        images[row] = image
    return images[: len(decoding.kept)], decoding


def make_shard(encoding: Encoding, shard: int, pictures: Pictures, show: Callable[[int], None]) -> None:
    """Encode and write one shard; `show` is called with how many of its pictures are encoded."""
    plan, (images, decoding) = encoding.plan, pictures
    rows, labels = images, encoding.source.labels[decoding.kept]
    if encoding.autoencoder:
        rows = moments(images, encoding.autoencoder, plan.flips, encoding.batch_size, show)
        if len(bad := np.flatnonzero(~np.isfinite(rows).all(axis=tuple(range(1, rows.ndim))))):
            name = f"{encoding.source.path}/{encoding.source.names[decoding.kept[bad[0]]]}"
            by = encoding.autoencoder.space.autoencoder
            raise ValueError(f"{name}: its moments by {by!r} are not finite in half precision")
    tensors = {plan.tensor: rows, "labels": labels, "digests": row_digests(images, labels)}
    left_out = {"skipped": decoding.skipped, "several": sorted(decoding.several)}
    made = {"sha256": sha256_of(tensors), "sums": channel_sums(rows)}
    write_shard(encoding.out / shard_name(shard), plan, tensors, left_out | made)


def moments(
    images: UInt8[np.ndarray, "n C H W"],
    autoencoder: Autoencoder,
    flips: int,
    batch_size: int,
    show: Callable[[int], None],
) -> Float16[np.ndarray, "n F 2 c h w"]:
    """Mean and standard deviation of the posterior of each image and, with two flips, of its mirror image."""
    rows = np.empty((len(images), *row_shape(images.shape[1:], autoencoder, flips)), np.float16)
    for start in range(0, len(images), batch_size):
        x = to_model_range(torch.from_numpy(images[start : start + batch_size]))
        for flip in range(flips):
            mean, std = autoencoder.moments(x.flip(-1) if flip else x)
            rows[start : start + batch_size, flip] = torch.stack((mean, std), dim=1).numpy()
        show(min(start + batch_size, len(images)))
    return rows


def channel_sums(rows: np.ndarray) -> list[list[float]]:
    """Per channel of moments: how many, sum of means, sum of means^2 + stds^2; nothing for images."""
    if rows.ndim != 6:
        return []
    mean, std = rows.astype(np.float64).swapaxes(0, 2)[:2]
    return [
        [float(m.size), float(m.sum()), float((m**2).sum() + (s**2).sum())]
        for m, s in zip(np.moveaxis(mean, 2, 0), np.moveaxis(std, 2, 0), strict=True)
    ]
