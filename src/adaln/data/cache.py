"""Pictures decoded once into one memory-mapped file, found again by what they were decoded from."""

import hashlib
import json
import math
import os
import shutil
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import PIL

from adaln.data.dataset import DataConfig, Dataset, fingerprint, row_digests, spec_of
from adaln.data.pictures import Decoding, Source, stop_at, stored_mode
from adaln.files import atomic_folder, locked, remove_temporaries, temporaries
from adaln.progress import progress

FORMAT = 2
"""Part of every cache key: raise it when decoding changes a pixel, or when what is kept changes."""


def default_cache() -> Path:
    """`$ADALN_CACHE`, else `adaln` in the user's cache folder."""
    chosen = os.environ.get("ADALN_CACHE")
    return Path(chosen) if chosen else Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "adaln"


def decoded(source: Source, config: DataConfig, cache: Path) -> Dataset:
    """The pictures as a data set, decoded if they are not in the cache; only one process makes it, others wait.

    Progress is how far it is, or how much another process has written. A decoding that fails or is killed
    leaves nothing that counts.
    """
    skip_bad = config.on_bad_image == "skip"
    folder = cache / "images" / key(source, config.size)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(folder.with_suffix(".lock"), partial(show_other, source, folder)):
        if not is_complete(folder):
            shutil.rmtree(folder, ignore_errors=True)
            remove_temporaries(folder.parent, folder.name)
            with atomic_folder(folder) as unfinished:
                write(Decoding(source, config.size, stored_mode(source), skip_bad), unfinished)
        about = json.loads((folder / "about.json").read_text())
        images = np.memmap(folder / "pixels.bin", np.uint8, "r", shape=tuple(about["shape"]))
        labels = np.load(folder / "labels.npy")
    stop_at(source.path, about["skipped"], skip_bad)
    spec = spec_of(images.shape[1:], source.class_names, config.conditional)
    known = (source.class_names, spec, about["fingerprint"], config.flip, tuple(about["skipped"]))
    return Dataset(source.path.resolve().stem, np.asarray(images), labels, *known)


def key(source: Source, size: int | None) -> str:
    """Changes with any picture's name, size or time, with the crop, and with the decoder."""
    made_from = (FORMAT, PIL.__version__, str(source.path.resolve()), size, source.class_names)
    digest = hashlib.sha256(repr(made_from).encode())
    digest.update(json.dumps([source.names, source.stamps, source.labels.tolist()]).encode())
    return digest.hexdigest()[:24]


def show_other(source: Source, folder: Path) -> None:
    """Show how much another process has decoded so far."""
    files = [unfinished / "pixels.bin" for unfinished in temporaries(folder.parent, folder.name)]
    with suppress(FileNotFoundError):  # it has just ended
        num_bytes = sum(file.stat().st_size for file in files)
        progress(f"decode {source.path.name} in another process", num_bytes // 10**6, 0, "MB")


def write(decoding: Decoding, folder: Path) -> None:
    """Decode every picture into `pixels.bin`, in order, then describe them in `labels.npy` and `about.json`."""
    source, skipped = decoding.source, decoding.skipped
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
    (folder / "about.json").write_text(json.dumps({"shape": images.shape, "skipped": skipped, "fingerprint": print_of}))


def is_complete(folder: Path) -> bool:
    """Whether all that is kept is there and `pixels.bin` has not been cut short."""
    about = folder / "about.json"
    if not about.exists():
        return False
    num_bytes: int = math.prod(json.loads(about.read_text())["shape"])
    return (folder / "pixels.bin").stat().st_size == num_bytes
