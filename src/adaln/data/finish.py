"""The last step of an encoding: from all shards to their index."""

import hashlib
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from adaln.data.dataset import fingerprint_of
from adaln.data.shards import FORMAT, INDEX, Index, Plan, ShardEntry, read_shard, shard_name
from adaln.data.tensorfile import write_json
from adaln.files import locked, remove_temporaries


def finish(out: Path, plan: Plan, classes: set[int], autoencoder: str) -> Index | None:
    """Write the index if every shard is there; None if other ranks have still to make some.

    `autoencoder`: where it was opened, for whoever decodes; no part of what makes sets equal.

    Raises ValueError if no image of one of the `classes` was left.
    """
    paths = [out / shard_name(shard) for shard in range(plan.num_shards)]
    if not all(path.exists() for path in paths):
        return None
    index = describe(out, plan, paths, classes, autoencoder)
    with locked(out / ".plan.lock"):
        write_json(out / INDEX, {"format": FORMAT, **asdict(index)})
        remove_temporaries(out)  # of killed encoders; all shards are there, so nobody is writing one
    return index


def describe(out: Path, plan: Plan, paths: list[Path], classes: set[int], autoencoder: str) -> Index:
    """What the shards hold together."""
    shards = [read_shard(path) for path in paths]
    entries = [
        ShardEntry(path.name, len(tensors["labels"]), about["sha256"])
        for path, (tensors, about) in zip(paths, shards, strict=True)
    ]
    labels = np.concatenate([tensors["labels"] for tensors, _ in shards])
    missing = classes - set(labels.tolist())
    if missing and plan.class_names:
        raise ValueError(f"{out}: no image of class {plan.class_names[min(missing)]!r} could be decoded")
    digests = np.concatenate([tensors["digests"] for tensors, _ in shards])
    source = fingerprint_of(digests, (len(labels), *plan.image_shape), plan.class_names)
    mean, std = channel_statistics(plan, [about["sums"] for _, about in shards])
    skipped = tuple(name for _, about in shards for name in about["skipped"])
    own = latents_fingerprint(plan, entries) if plan.space else source
    return Index(plan, tuple(entries), skipped, own, source, mean, std, autoencoder)


def latents_fingerprint(plan: Plan, shards: list[ShardEntry]) -> str:
    """Over the latent space and all that the shards hold."""
    return hashlib.sha256(repr((plan.space, [shard.sha256 for shard in shards])).encode()).hexdigest()


def channel_statistics(plan: Plan, sums: list[Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel of scaled latents, the posterior's own variance included."""
    if plan.space is None:
        return (), ()
    means, stds = [], []
    for channel in zip(*(shard for shard in sums if shard), strict=True):
        count, first, second = (math.fsum(column) for column in zip(*channel, strict=True))
        means.append((first / count - plan.space.shift_factor) * plan.space.scaling_factor)
        stds.append(math.sqrt(max(second / count - (first / count) ** 2, 0.0)) * plan.space.scaling_factor)
    return tuple(means), tuple(stds)
