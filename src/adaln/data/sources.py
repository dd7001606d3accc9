"""Encoded pictures with their labels, wherever they lie."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from adaln.data.hub import is_saved_dataset, labels_of, open_table, picture_column, reader, stamp_of
from adaln.data.labels import label
from adaln.data.listing import Listing, list_folder, list_zip, open_zip
from adaln.data.pictures import SUFFIXES
from adaln.data.tars import list_tars, tars_at
from adaln.registry import nearest


@dataclass(frozen=True, slots=True)
class Source:
    """Encoded pictures in their fixed order, as columns (a million rows are usual)."""

    path: Path
    names: list[str]
    """Relative to `path`, with forward slashes; sorted."""
    labels: Int64[np.ndarray, "N"]
    class_names: tuple[str, ...]
    """Empty for a set without classes."""
    stamps: list[tuple[int, int]]
    """Size and modification time (folder, tar) or CRC (zip): a changed file has another stamp."""
    read: Callable[[str], bytes]


def open_source(path: Path) -> Source:
    """The pictures in a folder, zip, tar, folder of tars or saved dataset.

    Raises ValueError where there is nothing to learn from.
    """
    if is_saved_dataset(path):
        return open_dataset(str(path))
    if tars := tars_at(path):
        return arrange(path, *list_tars(tars))
    if path.is_dir():
        return arrange(path, list_folder(path), lambda name: (path / name).read_bytes())
    if path.is_file():
        archive = open_zip(path)
        return arrange(path, list_zip(path, archive), locked(archive.read))
    raise ValueError(
        f"no data at {str(path)!r}{nearest(str(path), ['digits'])}; expected 'digits', a folder, zip or tar"
    )


def open_dataset(path: str) -> Source:
    """The pictures of a Hugging Face dataset, named by their row."""
    table = open_table(path)
    names = [f"{number:08d}" for number in range(len(table))]
    labels, class_names = labels_of(path, table)
    read = locked(reader(table, picture_column(path, table)))
    return Source(Path(path), names, labels, class_names, [stamp_of(table)] * len(names), read)


def locked(read: Callable[[str], bytes]) -> Callable[[str], bytes]:
    """`read`, one thread at a time: pictures are read in turn and decoded in parallel."""
    lock = threading.Lock()

    def one_at_a_time(name: str) -> bytes:
        with lock:
            return read(name)

    return one_at_a_time


def arrange(path: Path, listing: Listing, read: Callable[[str], bytes]) -> Source:
    """Pictures in order, with the labels that the layout gives them."""
    names = sorted(name for name in listing.stamps if name.lower().endswith(SUFFIXES))
    if not names:
        raise ValueError(f"{path}: no images among its {len(listing.stamps)} files; expected {', '.join(SUFFIXES)}")
    labels, class_names = label(path, names, listing, read)
    return Source(path, names, labels, class_names, [listing.stamps[name] for name in names], read)
