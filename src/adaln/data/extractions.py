"""Training on latents that other projects extracted: fast-DiT's pairs of npy files, LightningDiT's safetensors shards.

They hold draws that were made once, not moments, so every epoch sees the same latents. Which autoencoder made them is
not written in them, so they can be trained on, but whoever decodes the samples must know it.
"""

import hashlib
import io
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int64
from torch import Tensor

from adaln.data.config import DataConfig
from adaln.data.dataset import Dataset, Rows, spec_of
from adaln.data.keys import MISSING, TWICE, missing, of_same_bytes, refuse_copies
from adaln.data.labels import by_kind, passed_over
from adaln.data.latents import NoImages
from adaln.data.listing import Listing, list_folder
from adaln.data.numbers import numbered, whole_number
from adaln.data.shard_files import map_tensors
from adaln.files import default_cache, filling, locked, reading, write_atomically
from adaln.progress import progress
from adaln.tensor_files import load_npy, load_pickle

LIGHTNING_SHARDS, STATISTICS = "latents_rank*_shard*.safetensors", "latents_stats.pt"
RUN = 256
"""Latents that are hashed at once."""


class NpyFiles(Rows):
    """Rows that lie in `0.npy`, `1.npy`, ... of a folder, each with a leading axis of length 1."""

    def __init__(self, folder: Path, num_rows: int, ndim: int) -> None:
        self.folder, self.num_rows = folder, num_rows
        first = load_npy(folder / "0.npy")
        if first.ndim != ndim or len(first) != 1:
            expected = f"one row of {ndim - 1} axes, (1, ...)" if ndim > 1 else "one number, (1,)"
            raise ValueError(f"{folder / '0.npy'}: holds the shape {first.shape}; expected {expected}")
        super().__init__([first])

    def __len__(self) -> int:
        return self.num_rows

    def file_of(self, row: int) -> Path:
        """See `Rows`."""
        return self.folder / f"{row}.npy"

    def gather(self, indices: Int64[np.ndarray, "B"]) -> np.ndarray:
        return np.concatenate([self.row(index) for index in indices.tolist()])

    def row(self, index: int) -> np.ndarray:
        """What the file of that number holds; it must be as the first one."""
        file, first = self.file_of(index), self.parts[0]
        array = load_npy(file)
        if array.shape != first.shape or array.dtype.kind != first.dtype.kind:
            holds, expected = (f"{part.dtype} of the shape {part.shape}" for part in (array, first))
            raise ValueError(f"{file}: holds {holds}; expected {expected} as 0.npy")
        return array


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class FixedLatents(Dataset):
    """Latents as they were drawn once. `read` gives (latent - shift) * scale, per channel."""

    latents: Rows
    mirrored: Rows | None
    """Of the mirror images, if they were extracted."""
    shift: Float32[np.ndarray, "C 1 1"]
    scale: Float32[np.ndarray, "C 1 1"]

    @property
    def content(self) -> Rows:
        """See `Dataset`."""
        return self.latents

    def read(
        self, indices: Int64[np.ndarray, "B"], mirrored: Bool[np.ndarray, "B"], rngs: Iterable[torch.Generator]
    ) -> Float[Tensor, "B C h w"]:
        """Latents at `indices`, those of the mirror image where they are to be `mirrored`; nothing else is random."""
        rows = self.latents[indices]
        if self.mirrored is not None:
            rows[mirrored] = self.mirrored[indices[mirrored]]
        return torch.from_numpy((rows.astype(np.float32) - self.shift) * self.scale)

    def file_of(self, row: int) -> Path:
        """See `Dataset`."""
        return self.latents.file_of(row)

    def describe_latents(self) -> dict[str, Any]:
        """See `Dataset`."""
        is_normalised = bool((self.scale != 1).any() or self.shift.any())
        return {"autoencoder": None, "space": None, "is_normalised": is_normalised}


def open_fast_dit(config: DataConfig) -> Dataset:
    """`X_features/0.npy` (1, C, h, w), already scaled, beside `X_labels/0.npy` (1,)."""
    folder = Path(config.path)
    refuse_fixed(config, has_mirrored=False)
    features, labels = fast_dit_pair(folder)
    listing = list_folder(folder)
    stamps, of_labels = (npy_stamps(listing, part.name) for part in (features, labels))
    if len(stamps) != len(of_labels) or not stamps:
        raise ValueError(f"{folder}: {len(stamps)} files in {features.name} but {len(of_labels)} in {labels.name}")
    for part, known in ((features, stamps), (labels, of_labels)):
        missing = next((number for number in range(len(known)) if f"{number}.npy" not in known), None)
        if missing is not None:
            raise ValueError(f"{part / f'{missing}.npy'}: missing; expected 0.npy to {len(known) - 1}.npy")
    latents = NpyFiles(features, len(stamps), 4)
    for number in range(len(stamps)):
        if stamps[f"{number}.npy"][0] != stamps["0.npy"][0]:
            latents.row(number)  # says in what it differs; of another type of floats it is another number of bytes
    one = np.ones((latents.shape[1], 1, 1), np.float32)
    used = {f"{part.name}/{name}" for part in (features, labels) for name in stamps}
    found = fixed_latents(config, latents, None, cached_labels(labels, listing), 0 * one, one, listing)
    return replace(found, passed_over=passed_over(listing, used))


def fast_dit_pair(folder: Path) -> tuple[Path, Path]:
    """The folders of features and of labels; ValueError unless they are one pair of one name."""
    (features, *more), (labels, *others) = (sorted(folder.glob(f"*_{part}")) for part in ("features", "labels"))
    if more or others or features.name.removesuffix("_features") != labels.name.removesuffix("_labels"):
        names = ", ".join(part.name for part in (features, *more, labels, *others))
        raise ValueError(f"{folder}: holds {names}; expected one pair of folders NAME_features and NAME_labels")
    return features, labels


def npy_stamps(listing: Listing, folder: str) -> dict[str, tuple[int, int]]:
    """Size and modification time of the npy files of a folder in the set."""
    inside = {name.removeprefix(f"{folder}/"): s for name, s in listing.stamps.items() if name.startswith(f"{folder}/")}
    return {name: stamp for name, stamp in inside.items() if name.endswith(".npy") and "/" not in name}


def cached_labels(folder: Path, listing: Listing) -> Int64[np.ndarray, "N"]:
    """The labels of a folder of npy files in the set, gathered once: a million files take minutes to read."""
    rows = NpyFiles(folder, len(npy_stamps(listing, folder.name)), 1)

    def gathered() -> bytes:
        content = io.BytesIO()
        labels = [whole_number(rows.row(row).item(), str(rows.file_of(row))) for row in range(len(rows))]
        np.save(content, numbered(labels, lambda row: str(rows.file_of(row)))[0])
        return content.getvalue()

    labels: Int64[np.ndarray, N] = np.load(io.BytesIO(kept("labels", listing, gathered)))
    return labels


def cached_content(latents: Rows, mirrored: Rows | None, listing: Listing) -> bytes:
    """A digest over all latents, whatever shards they lie in; they are read once, which may take minutes."""

    def digest() -> bytes:
        total = len(latents) * (1 + (mirrored is not None))
        runs = [(rows, begin) for rows in (latents, mirrored) if rows is not None for begin in range(0, len(rows), RUN)]
        whole = hashlib.sha256()
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            digests = pool.map(lambda run: hashlib.sha256(run[0][run[1] : run[1] + RUN].tobytes()).digest(), runs)
            for number, of_run in enumerate(digests):
                whole.update(of_run)
                progress(f"fingerprint {listing.path.name}", min((number + 1) * RUN, total), total, "latents")
        return whole.digest()

    return kept("latents", listing, digest)


def kept(kind: str, listing: Listing, make: Callable[[], bytes]) -> bytes:
    """What is made of a folder, kept in the cache by the size and time of every file in it.

    It is made again where a ctime has changed since, and kept anew unless it is the same.
    """
    known = (str(listing.path.resolve()), sorted(listing.stamps.items()))
    path = default_cache() / kind / hashlib.sha256(repr(known).encode()).hexdigest()[:24]
    newest = listing.newest.to_bytes(16, "little")
    there = path.read_bytes() if path.exists() else b""
    if there.startswith(newest):
        return there[len(newest) :]
    made = make() if there else b""
    if there and there[len(newest) :] == made:
        with suppress(OSError):  # a cache that is only read
            write_atomically(path, newest + made)
        return made
    with filling(path.parent.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path.with_suffix(".lock")):
            if made or not path.exists():
                write_atomically(path, newest + (made or make()))
    return path.read_bytes()[len(newest) :]


def open_lightning_dit(config: DataConfig) -> Dataset:
    """`latents`, `latents_flip` and `labels` per shard, normalised by the channel statistics in `latents_stats.pt`."""
    folder = Path(config.path)
    refuse_fixed(config, has_mirrored=True)
    files, listing = sorted(folder.glob(LIGHTNING_SHARDS)), list_folder(folder)
    refuse_copies(folder, [file.name for file in files])
    shards = [lightning_shard(file) for file in files]
    latents, mirrored = (Rows([shard[name] for shard in shards], files) for name in ("latents", "latents_flip"))
    labels = np.concatenate([shard["labels"] for shard in shards]).astype(np.int64)
    mean, std = read_statistics(folder / STATISTICS, latents.shape[1])
    gaps = dict.fromkeys(missing([file.name for file in files], first=0), MISSING)
    gaps |= dict.fromkeys(of_same_bytes(files), TWICE)
    left = (*by_kind(gaps), *passed_over(listing, {STATISTICS, *(file.name for file in files)}))
    return replace(fixed_latents(config, latents, mirrored, labels, mean, 1 / std, listing), passed_over=left)


def lightning_shard(path: Path) -> dict[str, np.ndarray]:
    """Its tensors. Raises ValueError unless each has a row for every latent and labels are whole numbers."""
    tensors, names = map_tensors(path)[0], ("latents", "latents_flip", "labels")
    missing = set(names) - set(tensors)
    if missing:
        raise ValueError(f"{path}: has no {min(missing)!r}; expected {', '.join(names)}")
    shapes = {name: tensors[name].shape for name in names}
    num_rows = len(tensors["latents"])
    if shapes["latents"] != shapes["latents_flip"] or shapes["labels"] != (num_rows,):
        raise ValueError(f"{path}: shapes {shapes} do not belong together; expected a row and a label for every latent")
    labels = tensors["labels"]
    if labels.dtype.kind not in "iu" or (num_rows and labels.min() < 0):
        worst = f"{labels.dtype}" if labels.dtype.kind not in "iu" else f"the class {labels.min()}"
        raise ValueError(f"{path}: labels hold {worst}; expected whole numbers, 0 or more")
    return tensors


def read_statistics(path: Path, channels: int) -> tuple[Float32[np.ndarray, "C 1 1"], Float32[np.ndarray, "C 1 1"]]:
    """Mean and standard deviation per channel."""
    if not path.exists():
        raise ValueError(f"{path}: missing; expected the channel statistics that the latents are normalised by")
    statistics = load_pickle(path)
    values = [statistics[name] for name in ("mean", "std") if isinstance(statistics.get(name), Tensor)]
    if len(values) != 2 or any(value.numel() != channels for value in values):
        raise ValueError(f"{path}: expected `mean` and `std` of {channels} channels, as the latents have")
    with reading(path, "the channel statistics of latents"):
        mean, std = (value.float().reshape(channels, 1, 1).numpy() for value in values)
        if not (np.isfinite(mean).all() and np.isfinite(std).all() and (std > 0).all()):
            raise ValueError("a mean or std is not finite, or a std is not above 0")
    return mean, std


def refuse_fixed(config: DataConfig, has_mirrored: bool) -> None:
    """ValueError that names all at once of what is asked for and was decided when the latents were extracted."""
    choices = (
        (config.size is not None, f"size is {config.size}", "None (--data.size None)"),
        (config.flip and not has_mirrored, "flip is True", "False (--data.no-flip)"),
    )
    wrong = [f"{got}, expected {expected}" for is_wrong, got, expected in choices if is_wrong]
    if wrong:
        raise ValueError(
            f"{config.path}: size and flips of these latents were fixed as they were extracted: {', '.join(wrong)}"
        )


def fixed_latents(
    config: DataConfig,
    latents: Rows,
    mirrored: Rows | None,
    labels: Int64[np.ndarray, "N"],
    shift: Float32[np.ndarray, "C 1 1"],
    scale: Float32[np.ndarray, "C 1 1"],
    listing: Listing,
) -> Dataset:
    """The set; its fingerprint is over labels, statistics and all latents, which are read once for it."""
    folder = Path(config.path)
    if 0 in latents.shape or latents.dtype.kind not in "fiu":
        raise ValueError(f"{folder}: holds latents of {latents.dtype}, {latents.shape}; expected numbers (N, C, h, w)")
    _, class_names = numbered(labels.tolist(), lambda row: f"row {row} of {latents.file_of(row)}")
    known = (latents.shape, labels.tobytes(), shift.tobytes(), scale.tobytes())
    print_of = hashlib.sha256(repr(known).encode() + cached_content(latents, mirrored, listing)).hexdigest()
    return FixedLatents(
        folder.resolve().name,
        NoImages(str(folder), latents.parts),
        labels,
        class_names,
        spec_of(latents.shape[1:], class_names, config.conditional),
        print_of,
        config.flip,
        latents=latents,
        mirrored=mirrored,
        shift=shift,
        scale=scale,
    )
