"""What was decoded is kept in one memory-mapped file, found again by what it was decoded from.

The key holds the name, size and time of every picture. A file that was replaced by another one of its size and time has
changed all the same, as its system knows: then the bytes of all are held against those that were decoded.
"""

import hashlib
import json
import math
import os
import shutil
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import PIL

from adaln.data.config import DataConfig
from adaln.data.dataset import Dataset, fingerprint, row_digests, spec_of
from adaln.data.pictures import Decoding, Source, several_frames, stop_at, stored_mode
from adaln.files import atomic_folder, filling, locked, remove_temporaries, temporaries, write_atomically
from adaln.progress import progress
from adaln.tensor_files import load_npy

CACHE_FORMAT = 4
"""Part of every cache key: raise it when decoding changes a pixel, or when what is kept changes."""


def decoded(source: Source, config: DataConfig, cache: Path) -> Dataset:
    """The pictures as a data set, decoded if they are not in the cache; only one process makes it, others wait.

    Progress is how far it is, or how much another process has written. A decoding that fails or is killed
    leaves nothing that counts.
    """
    skip_bad = config.on_bad_image == "skip"
    folder = cache / "images" / cache_key(source, config.size)
    with filling(cache):
        if not is_decoded(folder, source):  # what is whole needs no lock, which a cache that is only read cannot have
            folder.parent.mkdir(parents=True, exist_ok=True)
            with locked(folder.with_suffix(".lock"), partial(show_other_process, source, folder)):
                if not is_decoded(folder, source):
                    shutil.rmtree(folder, ignore_errors=True)
                    remove_temporaries(folder.parent, folder.name)
                    with atomic_folder(folder) as unfinished:
                        write_decoded(Decoding(source, config.size, stored_mode(source), skip_bad), unfinished)
        about = json.loads((folder / "about.json").read_text())
        images = np.memmap(folder / "pixels.bin", np.uint8, "r", shape=tuple(about["shape"]))
        labels = np.load(folder / "labels.npy")
    stop_at(source.path, about["skipped"], skip_bad)
    spec = spec_of(images.shape[1:], source.class_names, config.conditional)
    known = (source.class_names, spec, about["fingerprint"], config.flip, tuple(about["skipped"]))
    left = (*source.passed_over, *several_frames(about["several"]))
    return Dataset(source.path.resolve().stem, np.asarray(images), labels, *known, left)


def cache_key(source: Source, size: int | None) -> str:
    """Changes with any picture's name, size or time (in a zip, its CRC), with the crop, and with the decoder."""
    made_from = (CACHE_FORMAT, PIL.__version__, str(source.path.resolve()), size, source.class_names)
    digest = hashlib.sha256(repr(made_from).encode())
    digest.update(json.dumps([source.names, source.stamps, source.labels.tolist()]).encode())
    return digest.hexdigest()[:24]


def show_other_process(source: Source, folder: Path) -> None:
    """Show how much another process has decoded so far."""
    files = [unfinished / "pixels.bin" for unfinished in temporaries(folder.parent, folder.name)]
    with suppress(FileNotFoundError):  # it has just ended
        num_bytes = sum(file.stat().st_size for file in files)
        progress(f"decode {source.path.name} in another process", num_bytes // 10**6, 0, "MB")


def write_decoded(decoding: Decoding, folder: Path) -> None:
    """Decode every picture into `pixels.bin`, in order, then describe them in `labels.npy` and `about.json`."""
    source, skipped = decoding.source, decoding.skipped
    content = content_of(source)
    with (folder / "pixels.bin").open("wb") as file:
        for image in decoding.images():
            file.write(image.data)
            num_seen = len(decoding.kept) + len(skipped)
            progress(f"decode {source.path.name}", num_seen, len(source.names), "images")
    _, shape = decoding.first_kept()
    labels = source.labels[decoding.kept]
    missing = set(source.labels.tolist()) - set(labels.tolist())
    if missing and source.class_names:
        raise ValueError(f"{source.path}: no image of class {source.class_names[min(missing)]!r} can be decoded")
    images = np.memmap(folder / "pixels.bin", np.uint8, "r", shape=(len(labels), *shape))
    np.save(folder / "labels.npy", labels)
    print_of = fingerprint(row_digests(images, labels), images.shape, source.class_names)
    about = {"shape": images.shape, "skipped": skipped, "fingerprint": print_of, "several": sorted(decoding.several)}
    (folder / "about.json").write_text(json.dumps(about | {"newest": source.newest, "content": content}))


def content_of(source: Source) -> str:
    """A digest over the bytes of all pictures; "" where the stamps say all."""
    if not source.newest:
        return ""

    def check(name: str) -> int:
        try:
            return zlib.crc32(source.read(name))
        except (ValueError, OSError):  # decoding it says so
            return -1

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return hashlib.sha256(repr(list(pool.map(check, source.names))).encode()).hexdigest()


def is_decoded(folder: Path, source: Source) -> bool:
    """Whether all that is kept is there and fits together; what is damaged counts as not there, and is made anew."""
    with suppress(Exception):  # whatever is raised over other bytes
        about, labels = json.loads((folder / "about.json").read_text()), load_npy(folder / "labels.npy")
        shape, count = about["shape"], len(source.names) - len(about["skipped"])
        is_whole = min(shape) > 0 and (folder / "pixels.bin").stat().st_size == math.prod(shape)
        fits = labels.shape == (count,) and shape[0] == count and isinstance(about["fingerprint"], str)
        fits = fits and isinstance(about["several"], list)
        if is_whole and fits and 0 <= labels.min() <= labels.max() < max(1, len(source.class_names)):
            return is_same_content(source, about, folder / "about.json")
    return False


def is_same_content(source: Source, about: dict[str, Any], file: Path) -> bool:
    """Whether the pictures are those that were decoded; what is written in `file` then knows when they last changed."""
    if source.newest == about["newest"]:
        return True
    if content_of(source) != about["content"]:
        return False
    with suppress(OSError):  # a cache that is only read
        write_atomically(file, json.dumps(about | {"newest": source.newest}))
    return True
