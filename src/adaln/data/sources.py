"""Where encoded pictures lie: a folder or a zip, flat or with one folder per class."""

import os
import threading
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import Int64

from adaln.data.pictures import SUFFIXES
from adaln.registry import nearest


@dataclass(frozen=True, slots=True)
class Source:
    """Encoded pictures in their fixed order, as columns (a million rows are usual)."""

    path: Path
    names: list[str]
    """Relative to `path`, with forward slashes; sorted."""
    labels: Int64[np.ndarray, "N"]
    class_names: tuple[str, ...]
    """Sorted names of the class folders; empty for a flat set."""
    stamps: list[tuple[int, int]]
    """Size and modification time (folder) or CRC (zip): a changed file has another stamp."""
    read: Callable[[str], bytes]


@dataclass(frozen=True, slots=True)
class Listing:
    """Every file and folder beneath a root, hidden ones left out."""

    stamps: dict[str, tuple[int, int]]
    folders: set[str]


def open_source(path: Path) -> Source:
    """The pictures in a folder or zip. Raises ValueError where there is nothing to learn from."""
    if path.is_dir():
        return arrange(path, list_folder(path), lambda name: (path / name).read_bytes())
    if path.is_file():
        archive = open_zip(path)
        return arrange(path, list_zip(path, archive), locked(archive.read))
    raise ValueError(f"no data at {str(path)!r}{nearest(str(path), ['digits'])}; expected 'digits', a folder or a zip")


def locked(read: Callable[[str], bytes]) -> Callable[[str], bytes]:
    """`read`, one thread at a time: pictures are read in turn and decoded in parallel."""
    lock = threading.Lock()

    def one_at_a_time(name: str) -> bytes:
        with lock:
            return read(name)

    return one_at_a_time


def open_zip(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path}: not a readable zip ({error}); expected 'digits', a folder or a zip") from error


def is_hidden(name: str) -> bool:
    """Dot files and the resource forks that macOS packs into its zips."""
    return any(part.startswith(".") or part == "__MACOSX" for part in PurePosixPath(name).parts)


def list_folder(root: Path) -> Listing:
    """Files and folders beneath `root`; folders that are links count at the top only, so that a link cannot loop."""
    stamps: dict[str, tuple[int, int]] = {}
    folders = {entry.name for entry in os.scandir(root) if entry.is_dir() and not is_hidden(entry.name)}
    for top in ("", *folders):
        for here, below, files in os.walk(root / top):
            inside = Path(here).relative_to(root)
            below[:] = [] if top == "" else [name for name in below if not is_hidden(name)]
            for name in files:
                if not is_hidden(name):
                    stamps[(inside / name).as_posix()] = file_stamp(Path(here, name))
            folders.update((inside / name).as_posix() for name in below)
    return Listing(stamps, folders)


def file_stamp(path: Path) -> tuple[int, int]:
    """Size and modification time; (0, 0) for a dangling link, which then fails to decode like any bad picture."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return (0, 0)
    return (status.st_size, status.st_mtime_ns)


def list_zip(path: Path, archive: zipfile.ZipFile) -> Listing:
    stamps: dict[str, tuple[int, int]] = {}
    folders: set[str] = set()
    for entry in archive.infolist():
        name = entry.filename.rstrip("/")
        if is_hidden(name):
            continue
        folders.update(str(parent) for parent in PurePosixPath(name).parents if str(parent) != ".")
        if entry.is_dir():
            folders.add(name)
        elif name in stamps:
            raise ValueError(f"{path}: holds {name!r} twice; expected every name once")
        else:
            stamps[name] = (entry.file_size, entry.CRC)
    return Listing(stamps, folders)


def arrange(path: Path, listing: Listing, read: Callable[[str], bytes]) -> Source:
    """Pictures in order with labels from their class folders, or without labels if the set is flat."""
    names = sorted(name for name in listing.stamps if name.lower().endswith(SUFFIXES))
    if not names:
        raise ValueError(f"{path}: no images among its {len(listing.stamps)} files; expected {', '.join(SUFFIXES)}")
    root = top_folder(names, listing.folders)
    flat = [name for name in names if "/" not in name.removeprefix(root)]
    class_names = class_folders(path, root, names, listing.folders) if len(flat) < len(names) else ()
    if flat and class_names:
        raise ValueError(f"{path}: image {flat[0]!r} lies beside class folders; expected all images in class folders")
    index = {name: label for label, name in enumerate(class_names)}
    labels = [index.get(name.removeprefix(root).split("/")[0], 0) for name in names]
    stamps = [listing.stamps[name] for name in names]
    return Source(path, names, np.array(labels, np.int64), class_names, stamps, read)


def top_folder(names: list[str], folders: set[str]) -> str:
    """`"set/"` if all lies in a single folder of folders (as zips are often packed), else `""`."""
    tops = {folder for folder in folders if "/" not in folder}
    if len(tops) == 1 and all(name.count("/") >= 2 for name in names):
        return tops.pop() + "/"
    return ""


def class_folders(path: Path, root: str, names: list[str], folders: set[str]) -> tuple[str, ...]:
    """Sorted names of the folders directly beneath `root`; each must hold a picture."""
    inside = {folder.removeprefix(root) for folder in folders if folder.startswith(root)}
    classes = sorted(folder for folder in inside if folder and "/" not in folder)
    filled = {name.removeprefix(root).split("/")[0] for name in names}
    empty = [folder for folder in classes if folder not in filled]
    if empty:
        raise ValueError(f"{path}: class folder {empty[0]!r} holds no image; fill or remove it ({len(empty)} empty)")
    return tuple(classes)
