"""What lies beneath a root, be it a folder, a zip or tars: files with their stamps, folders, and how a file is read."""

import os
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from adaln.data.pictures import SUFFIXES, one_at_a_time

COMPRESSED = (".tar.gz", ".tgz", ".tar.zst", ".tar.xz", ".tar.bz2")


@dataclass(frozen=True, slots=True)
class Listing:
    """Every file and folder beneath a root, hidden ones left out."""

    path: Path
    stamps: dict[str, tuple[int, int]]
    """Of each file: size and modification time (folder, tar) or CRC (zip)."""
    folders: set[str]
    read: Callable[[str], bytes]
    """The content of a file."""
    in_tars: bool = False
    """Names begin with the name of the tar that they lie in: shards of one set may repeat the names inside."""

    @property
    def pictures(self) -> list[str]:
        """Names of the files that are pictures, sorted."""
        return sorted(name for name in self.stamps if name.lower().endswith(SUFFIXES))


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
                try:
                    status = entry.stat()
                    stamps[name] = (status.st_size, status.st_mtime_ns)
                except FileNotFoundError:  # a dangling link, which then fails to decode like any bad picture
                    stamps[name] = (0, 0)
    return Listing(root, stamps, folders, lambda name: (root / name).read_bytes())


def list_zip(path: Path) -> Listing:
    """Members of a zip, which stays open. Raises ValueError where it is damaged or holds a name twice."""
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path}: not a readable zip ({error}); expected 'digits', a folder, zip or tar") from error
    stamps: dict[str, tuple[int, int]] = {}
    folders: set[str] = set()
    for entry in archive.infolist():
        name = entry.filename.rstrip("/")
        if is_hidden(name):
            continue
        folders.update(parents(name))
        if entry.is_dir():
            folders.add(name)
        elif name in stamps:
            raise ValueError(f"{path}: holds {name!r} twice; expected every name once")
        else:
            stamps[name] = (entry.file_size, entry.CRC)
    return Listing(path, stamps, folders, one_at_a_time(archive.read))


def is_tar(path: Path) -> bool:
    """Whether that is a tar; a compressed one is by its name alone."""
    return path.name.lower().endswith(COMPRESSED) or (path.suffix.lower() == ".tar" and path.is_file())


def tars_in(folder: Path) -> list[Path]:
    """The tar files directly in a folder that has no pictures or folders."""
    entries = [entry for entry in folder.iterdir() if not is_hidden(entry.name)] if folder.is_dir() else []
    if any(entry.is_dir() or entry.name.lower().endswith(SUFFIXES) for entry in entries):
        return []
    return sorted(entry for entry in entries if entry.suffix.lower() == ".tar")


def list_tars(path: Path) -> Listing:
    """What lies in a tar or in a folder of tars; read in place, at random.

    Raises ValueError where one is compressed or cut short.
    """
    positions: dict[str, tuple[Path, int, int]] = {}
    stamps: dict[str, tuple[int, int]] = {}
    folders: set[str] = set()
    for tar in tars_in(path) or [path]:
        time = tar.stat().st_mtime_ns
        for member in members(tar):
            name = f"{tar.name}/{member.name.removeprefix('./')}"
            if is_hidden(name):
                continue
            if member.isdir():
                folders.add(name)
            elif name in positions:
                raise ValueError(f"{tar}: holds {member.name!r} twice; expected every name once")
            else:
                positions[name] = (tar, member.offset_data, member.size)
                stamps[name] = (member.size, time)
                folders.update(parents(name))

    def read(name: str) -> bytes:
        tar, begin, size = positions[name]
        with tar.open("rb") as file:
            file.seek(begin)
            return file.read(size)

    return Listing(path, stamps, folders, read, in_tars=True)


def members(path: Path) -> Iterator[tarfile.TarInfo]:
    """Files and folders of a tar. Raises ValueError where it is compressed or cut short."""
    if path.name.lower().endswith(COMPRESSED):
        raise ValueError(f"{path}: a compressed tar cannot be read at random; unpack it or store it as .tar")
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
