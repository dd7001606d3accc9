"""Pictures in tar files, as WebDataset packs them; read in place, at random."""

import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

from adaln.data.listing import Listing, is_hidden
from adaln.data.pictures import SUFFIXES


def tars_at(path: Path) -> list[Path]:
    """The tar files that a path names: itself, or those directly in a folder that has no pictures or folders."""
    if path.name.lower().endswith((".tar.gz", ".tgz", ".tar.zst", ".tar.xz", ".tar.bz2")):
        raise ValueError(f"{path}: a compressed tar cannot be read at random; unpack it or store it as .tar")
    if path.is_dir():
        entries = [entry for entry in path.iterdir() if not is_hidden(entry.name)]
        if any(entry.is_dir() or entry.name.lower().endswith(SUFFIXES) for entry in entries):
            return []
        return sorted(entry for entry in entries if entry.suffix.lower() == ".tar")
    return [path] if path.is_file() and path.suffix.lower() == ".tar" else []


def list_tars(paths: list[Path]) -> tuple[Listing, Callable[[str], bytes]]:
    """What lies in the tars, and how to read one of the files."""
    places: dict[str, tuple[Path, int, int]] = {}
    stamps: dict[str, tuple[int, int]] = {}
    folders: set[str] = set()
    for path in paths:
        time = path.stat().st_mtime_ns
        for member in members(path):
            name = f"{path.name}/{member.name.removeprefix('./')}"
            if is_hidden(name):
                continue
            if member.isdir():
                folders.add(name)
            elif name in places:
                raise ValueError(f"{path}: holds {member.name!r} twice; expected every name once")
            else:
                places[name] = (path, member.offset_data, member.size)
                stamps[name] = (member.size, time)
                folders.update(parents(name))

    def read(name: str) -> bytes:
        path, begin, size = places[name]
        with path.open("rb") as file:
            file.seek(begin)
            return file.read(size)

    return Listing(stamps, folders, in_tars=True), read


def members(path: Path) -> Iterator[tarfile.TarInfo]:
    """Files and folders of a tar. Raises ValueError where it is cut short."""
    num_bytes = path.stat().st_size
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                if member.offset_data + member.size > num_bytes:
                    raise ValueError(f"{path}: cut short within {member.name!r}")
                if member.isfile() or member.isdir():
                    yield member
    except tarfile.TarError as error:
        raise ValueError(f"{path}: cut short, or not a tar ({error})") from error


def parents(name: str) -> Iterator[str]:
    """`"a"` and `"a/b"` of `"a/b/c"`."""
    parts = name.split("/")
    return ("/".join(parts[:depth]) for depth in range(1, len(parts)))
