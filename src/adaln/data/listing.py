"""What lies beneath a root: files with their stamps, and folders."""

import os
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath


@dataclass(frozen=True, slots=True)
class Listing:
    """Every file and folder beneath a root, hidden ones left out."""

    stamps: dict[str, tuple[int, int]]
    folders: set[str]
    in_tars: bool = False
    """Names begin with the name of the tar that they lie in: shards of one set may repeat the names inside."""


def open_zip(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path}: not a readable zip ({error}); expected 'digits', a folder, zip or tar") from error


def is_hidden(name: str) -> bool:
    """Dot files and the resource forks that macOS packs into its zips, at any depth."""
    return name.startswith((".", "__MACOSX")) or "/." in name or "/__MACOSX" in name


def list_folder(root: Path) -> Listing:
    """Files and folders beneath `root`; folders that are links count at the top only, so that a link cannot loop."""
    stamps: dict[str, tuple[int, int]] = {}
    folders: set[str] = set()
    to_visit = [("", str(root))]
    while to_visit:
        inside, here = to_visit.pop()
        for entry in os.scandir(here):
            name = inside + entry.name
            if is_hidden(entry.name):
                continue
            if entry.is_dir(follow_symlinks=inside == ""):
                folders.add(name)
                to_visit.append((name + "/", entry.path))
            else:
                stamps[name] = file_stamp(entry)
    return Listing(stamps, folders)


def file_stamp(entry: os.DirEntry[str]) -> tuple[int, int]:
    """Size and modification time; (0, 0) for a dangling link, which then fails to decode like any bad picture."""
    try:
        status = entry.stat()
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
