"""What a path holds, without having to trust it: kind, how many, which classes, whether all of it can be read.

And whether what was encoded is what the pictures were: some of it decoded and held against them.
"""

import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64, UInt8

from adaln.data.autoencoder import Autoencoder
from adaln.data.batches import augmented
from adaln.data.config import DataConfig
from adaln.data.dataset import count_classes, row_digests, summary
from adaln.data.formats import FORMATS, load, open_source, recognise
from adaln.data.pictures import AT_ONCE, decode, decode_all, several_frames, stored_mode
from adaln.data.shard_files import ShardSet, files_beside, map_shard, open_shards, read_index, sha256_of
from adaln.files import expanded
from adaln.progress import progress
from adaln.rng import generator


@dataclass(frozen=True, slots=True)
class Inspection:
    """What lies at a path."""

    path: str
    kind: str
    """E.g. "images in a zip", "shards of adaln", "latents of fast-DiT"."""
    num_items: int
    shapes: dict[str, int]
    """How many items have which shape, e.g. {"3x32x32": 15400}."""
    class_counts: dict[str, int]
    """Items per class; empty without classes."""
    problems: tuple[str, ...]
    """One line per thing that is missing, damaged or out of place, naming the file."""
    notes: dict[str, str]
    """What else the set says of itself."""
    passed_over: tuple[str, ...] = ()
    """What lies there and is none of the set, a phrase for each kind."""

    @property
    def is_intact(self) -> bool:
        return not self.problems


def inspect(path: str) -> Inspection:
    """Look through everything at `path`: every picture is decoded, every shard and every latent read.

    Raises ValueError where there is nothing.
    """
    kind, _, _ = recognise(path)
    try:
        look = pictures if FORMATS[kind].pictures else {"shards of adaln": shards}.get(kind, latents)
        return look(path, kind)
    except ValueError as error:
        return Inspection(path, kind, 0, {}, {}, (str(error),), {})


def pictures(path: str, kind: str) -> Inspection:
    """Decode every picture."""
    source = open_source(path)
    shapes: Counter[str] = Counter()
    problems, several = [], list[str]()
    for index, picture in enumerate(decode_all(source.read, source.names, None, stored_mode(source), several)):
        if isinstance(picture, ValueError):
            problems.append(f"{source.names[index]}: {picture}")
        else:
            shapes[dimensions(picture.shape)] += 1
        progress(f"inspect {path}", index + 1, len(source.names), "images")
    counts = count_classes(source.labels, source.class_names)
    left = (*source.passed_over, *several_frames(several))
    notes = {"size": "set one to crop the images to"} if len(shapes) > 1 else {}
    notes["holds"] = summary(source.labels, source.class_names, left)
    return Inspection(path, kind, len(source.names), dict(shapes), counts, tuple(problems), notes, left)


def shards(path: str, kind: str) -> Inspection:
    """Hold every shard against its hash in the index."""
    folder = expanded(path)
    index = read_index(folder)
    problems, labels, shape = [], [np.zeros(0, np.int64)], "unknown"
    for number, shard in enumerate(index.shards):
        try:
            tensors = map_shard(folder, shard, index.plan)
        except ValueError as error:
            problems.append(str(error))
        else:
            labels.append(tensors["labels"])
            shape = dimensions(tensors[index.plan.tensor].shape[1:])
            if sha256_of(tensors) != shard.sha256:
                problems.append(f"{folder / shard.file}: its content is not what was written (SHA-256 differs)")
        progress(f"inspect {path}", number + 1, len(index.shards), "shards")
    plan = index.plan
    notes = {
        "of": plan.tensor,
        "source": plan.source,
        "fingerprint": index.fingerprint,
        "skipped": str(len(index.skipped)),
    }
    if plan.space:
        notes |= {"autoencoder": plan.space.autoencoder, "scaling factor": str(plan.space.scaling_factor)}
    found, left = np.concatenate(labels), (*index.passed_over, *files_beside(folder, index))
    notes["holds"] = summary(found, plan.class_names, left)
    counts = count_classes(found, plan.class_names)
    return Inspection(path, kind, index.num_rows, {shape: index.num_rows}, counts, tuple(problems), notes, left)


def latents(path: str, kind: str) -> Inspection:
    """Read every latent of an extraction by another project."""
    dataset = load(DataConfig(path))
    problems = []
    for start in range(0, len(dataset), AT_ONCE):
        stop = min(start + AT_ONCE, len(dataset))
        try:
            x = augmented(dataset, np.arange(start, stop), (generator("inspect", row) for row in range(start, stop)))
            bad = [start + row for row, latent in enumerate(x) if not latent.isfinite().all()]
            if bad:
                where = dataset.file_of(bad[0]) or path
                problems.append(f"{where}: row {bad[0]} is not finite ({len(bad)} of rows {start} to {stop - 1})")
        except ValueError as error:
            problems.append(str(error))
        progress(f"inspect {path}", stop, len(dataset), "latents")
    counts = count_classes(dataset.labels, dataset.class_names)
    spec = dataset.spec
    shapes = {dimensions((spec.channels, spec.height, spec.width)): len(dataset)}
    left = dataset.passed_over
    notes = {"holds": summary(dataset.labels, dataset.class_names, left)}
    return Inspection(path, kind, len(dataset), shapes, counts, tuple(problems), notes, left)


def dimensions(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


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
