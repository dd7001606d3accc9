"""Sets of images or latents in sharded safetensors files with one index.

A shard holds `labels`, `digests` (SHA-256 of each cropped picture and its label) and either `images` (n, C, H, W) in
bytes or `moments` (n, flips, 2, C, h, w) in half precision: mean and standard deviation of the autoencoder's posterior,
of the picture and of its mirror image. `index.json` is written last, so a folder that has one is complete.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Int64
from safetensors.numpy import save

from adaln.codec import LEFT_OUT_AT_DEFAULT, decode, encode
from adaln.data.autoencoder import LatentSpace
from adaln.data.dataset import Rows, fingerprint
from adaln.data.labels import by_kind
from adaln.data.listing import ending, list_folder
from adaln.data.pictures import several_frames
from adaln.files import locked, reading, remove_temporaries, write_atomically
from adaln.tensor_files import read_header

FORMAT = "adaln-shards-1"
INDEX, PLAN, ROUND_TRIP = "index.json", "plan.json", "round-trip.png"
DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "|i1", "U8": "|u1"}
"""Types of numpy by their names in a safetensors header."""
PAGE_BYTES = 65536
"""Of the largest pages of memory that machines use."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What an encoding will hold. It is written first; who goes on with the encoding must have the same."""

    source: str
    source_sha256: str
    """Over names, labels and sizes in bytes of the encoded pictures."""
    num_images: int
    class_names: tuple[str, ...]
    size: int | None
    image_shape: tuple[int, ...]
    """(C, H, W) after the crop."""
    on_bad_image: Literal["stop", "skip"]
    decoder: str
    shard_rows: int
    flips: int
    """2: the mirror image is encoded too (an autoencoder does not commute with mirroring)."""
    space: LatentSpace | None
    """None: the shards hold images."""

    @property
    def tensor(self) -> str:
        return "moments" if self.space else "images"

    @property
    def num_shards(self) -> int:
        return -(-self.num_images // self.shard_rows)

    def pictures(self, shard: int) -> range:
        """Which pictures of the source go into a shard."""
        return range(shard * self.shard_rows, min((shard + 1) * self.shard_rows, self.num_images))

    @property
    def sha256(self) -> str:
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class ShardEntry:
    """One file of the index."""

    file: str
    rows: int
    sha256: str
    """Over the bytes of its tensors."""


@dataclass(frozen=True, slots=True)
class Index:
    """What `index.json` says of a complete set."""

    plan: Plan
    shards: tuple[ShardEntry, ...]
    skipped: tuple[str, ...]
    fingerprint: str
    """Images: `source_fingerprint`. Latents: over all that the shards hold and the latent space."""
    source_fingerprint: str
    """Of the cropped pictures: that of the same set loaded from its folder or zip."""
    channel_mean: tuple[float, ...]
    """Of scaled latents as training draws them; empty for images."""
    channel_std: tuple[float, ...]
    autoencoder: str
    """Where the autoencoder was opened: a path or an id at the hub; empty for images."""
    passed_over: tuple[str, ...] = field(default=(), metadata=LEFT_OUT_AT_DEFAULT)
    """What lay beside the pictures and is none of the set, a phrase for each kind."""

    @property
    def num_rows(self) -> int:
        return sum(shard.rows for shard in self.shards)


def shard_name(number: int) -> str:
    return f"shard-{number:06d}.safetensors"


def sha256_of(tensors: Mapping[str, np.ndarray]) -> str:
    """Over names, types, shapes and bytes of a shard's tensors."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(repr((name, tensors[name].dtype.str, tensors[name].shape)).encode())
        digest.update(tensors[name].tobytes())
    return digest.hexdigest()


def read_index(folder: Path) -> Index:
    """Raises ValueError if the encoding has not ended or the index is not one."""
    path = folder / INDEX
    if not path.exists():
        raise ValueError(f"{folder}: the encoding has not ended; run the same `encode` again to go on with it")
    with reading(path, f"an index of {FORMAT}"):
        content = json.loads(path.read_text())
        if content.pop("format", None) != FORMAT:
            raise ValueError("it is of another format")
        return decode(Index, content)


@dataclass(frozen=True, slots=True, eq=False)
class ShardSet:
    """An open set: what the index says and the mapped rows."""

    index: Index
    rows: Rows
    """Of `images` (N, C, H, W), or of `moments` (N * flips, 2, C, h, w)."""
    labels: Int64[np.ndarray, "N"]
    digests: Rows
    """SHA-256 of each cropped picture with its label."""


def open_shards(folder: Path) -> ShardSet:
    """The set in a folder, memory-mapped. Raises ValueError naming the file that is missing, damaged or foreign."""
    index = read_index(folder)
    holding = [shard for shard in index.shards if shard.rows]
    tensors, files = [map_shard(folder, shard, index.plan) for shard in holding], [folder / s.file for s in holding]
    labels = np.concatenate([shard["labels"] for shard in tensors])
    rows = [shard[index.plan.tensor] for shard in tensors]
    if index.plan.space:  # the mirror image becomes a row of its own after that of the picture
        rows = [moments.reshape(-1, *moments.shape[2:]) for moments in rows]
    return ShardSet(index, Rows(rows, files), labels, Rows([shard["digests"] for shard in tensors], files))


def files_beside(folder: Path, index: Index) -> tuple[str, ...]:
    """What lies in the folder of a set and is none of it: shards of another encoding, a user's own files."""
    own = {INDEX, PLAN, ROUND_TRIP, *(shard.file for shard in index.shards)}
    return by_kind({name: ending(name) for name in list_folder(folder).stamps if name not in own})


def map_shard(folder: Path, shard: ShardEntry, plan: Plan) -> dict[str, np.ndarray]:
    path = folder / shard.file
    if not path.exists():
        raise ValueError(f"{path}: missing; expected {shard.rows} rows (the same `encode` again mends the set)")
    tensors, about = read_shard(path)
    if about["plan"] != plan.sha256:
        raise ValueError(f"{path}: belongs to another set than {folder / INDEX}")
    item = (plan.flips, 2) if plan.space else plan.image_shape
    for name, kind, begins in (
        (plan.tensor, "f" if plan.space else "u", item),
        ("labels", "i", ()),
        ("digests", "u", (32,)),
    ):
        tensor, shape = tensors[name], (shard.rows, *begins)
        if tensor.dtype.kind != kind or tensor.shape[: len(shape)] != shape:
            holds = (
                f"{len(tensor)} rows of {name}"
                if tensor.ndim and len(tensor) != shard.rows
                else f"{name} {tensor.dtype} {tensor.shape}"
            )
            raise ValueError(f"{path}: holds {holds}; expected {shard.rows}{f' of {begins}' if begins else ''}")
    if shard.rows and not 0 <= tensors["labels"].min() <= tensors["labels"].max() < max(1, len(plan.class_names)):
        raise ValueError(f"{path}: holds labels that are none of the {len(plan.class_names)} classes")
    return tensors


def read_shard(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The mapped tensors of a shard of ours and what was noted when it was made."""
    tensors, metadata = map_tensors(path)
    with reading(path, f"a shard of {FORMAT}"):
        about: dict[str, Any] = json.loads(metadata["adaln"])
        if missing := {"labels", "digests"} - set(tensors) or {"plan", "sha256", "sums", "skipped"} - set(about):
            raise ValueError(f"it has no {min(missing)!r}")
        return tensors, about


def map_tensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays of a safetensors file, memory-mapped, and its metadata.

    Raises ValueError naming the file if it is not whole or has a type that numpy lacks.
    """
    entries, metadata, start = read_header(path)
    content = np.asarray(np.memmap(path, np.uint8, "r"))[start:]
    tensors = {}
    for name, entry in entries.items():
        if entry["dtype"] not in DTYPES:
            raise ValueError(f"{path}: tensor {name!r} is {entry['dtype']}; expected one of {', '.join(DTYPES)}")
        tensors[name] = content[slice(*entry["data_offsets"])].view(DTYPES[entry["dtype"]]).reshape(entry["shape"])
    return tensors, metadata


def write_shard(path: Path, plan: Plan, tensors: Mapping[str, np.ndarray], about: Mapping[str, Any]) -> None:
    """Write a shard that is there completely or not at all, whenever the process is killed.

    Its rows begin at a page of memory: blanks after the header, as the format allows, so that they can be mapped alone.
    """
    noted = {"adaln": json.dumps({"plan": plan.sha256, **about})}
    content = save({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, noted)
    num_bytes = int.from_bytes(content[:8], "little")
    header, data = content[8 : 8 + num_bytes], content[8 + num_bytes :]
    blanks = -(8 + num_bytes + json.loads(header)[plan.tensor]["data_offsets"][0]) % PAGE_BYTES
    write_atomically(path, b"".join(((num_bytes + blanks).to_bytes(8, "little"), header, b" " * blanks, data)))


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file that is there completely or not at all."""
    write_atomically(path, json.dumps(content, indent=1) + "\n")


def write_index(
    out: Path, plan: Plan, classes: set[int], autoencoder: str, passed_over: tuple[str, ...] = ()
) -> Index | None:
    """Write the index if every shard is there; None if other ranks have still to make some.

    `autoencoder`: where it was opened, for whoever decodes; no part of what makes sets equal.

    Raises ValueError if no image of one of the `classes` was left.
    """
    paths = [out / shard_name(shard) for shard in range(plan.num_shards)]
    if not all(path.exists() for path in paths):
        return None
    index = describe(out, plan, paths, classes, autoencoder)
    index = replace(index, passed_over=(*passed_over, *index.passed_over))
    with locked(out / ".plan.lock"):
        write_json(out / INDEX, {"format": FORMAT, **encode(index)})
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
    source = fingerprint(digests, (len(labels), *plan.image_shape), plan.class_names)
    mean, std = channel_statistics(plan, [about["sums"] for _, about in shards])
    skipped = tuple(name for _, about in shards for name in about["skipped"])
    made = repr((plan.space, [shard.sha256 for shard in entries]))
    print_of = hashlib.sha256(made.encode()).hexdigest() if plan.space else source
    left = several_frames([name for _, about in shards for name in about.get("several", ())])
    return Index(plan, tuple(entries), skipped, print_of, source, mean, std, autoencoder, left)


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
