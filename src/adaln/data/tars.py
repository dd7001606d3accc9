"""What lies in tars, read in place: the shards of a set, a tar for each class, or a tar of either."""

import itertools
import operator
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from adaln.data.keys import MISSING, TWICE, missing, of_same_bytes, refuse_copies
from adaln.data.listing import Listing, ending, parents, passes_over, settled
from adaln.data.pictures import SUFFIXES
from adaln.files import reading
from adaln.tensor_files import what_text

TAR = ".tar"
COMPRESSED = (".tar.gz", ".tgz", ".tar.zst", ".tar.xz", ".tar.bz2")
PACKED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd")
"""How what is compressed by gzip, bzip2, xz or Zstandard begins."""
BLOCK, AT_ONCE = 512, 2**20
"""Bytes of which a tar is made, and that are read at once where it holds none but zeros."""


def is_tar(path: Path) -> bool:
    """Whether that is a tar by its content, or by its name where it is no zip either."""
    if not path.is_file():
        return False
    head = head_of(path)
    by_name = path.name.lower().endswith((TAR, *COMPRESSED)) and not head.startswith(b"PK")
    return head[257:262] == b"ustar" or by_name


def head_of(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(BLOCK)


def tars_in(folder: Path) -> list[Path]:
    """The tar files directly in a folder that has no pictures or folders."""
    entries = [entry for entry in folder.iterdir() if not passes_over(entry.name, {})] if folder.is_dir() else []
    if any(entry.is_dir() or entry.name.lower().endswith(SUFFIXES) for entry in entries):
        return []
    return sorted(entry for entry in entries if entry.suffix.lower() == TAR)


def list_tars(path: Path) -> Listing:
    """What lies in a tar or in a folder of tars; read in place, at random.

    A tar that holds tars and no pictures of its own counts as a folder of them.
    Raises ValueError where one is compressed, cut short or empty, or a copy of another.
    """
    tars = tars_in(path)
    refuse_copies(path, [tar.name for tar in tars])
    positions: dict[str, tuple[Path, int, int]] = {}
    stamps: dict[str, tuple[int, int]] = {}
    folders: set[str] = set()
    beside = [entry.name for entry in path.iterdir() if entry not in tars] if tars else []
    reasons = {name: ending(name) for name in beside if not passes_over(name, {})}
    for tar in tars or [path]:
        time = tar.stat().st_mtime_ns
        for name, member in members(tar, reasons):
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

    reasons |= dict.fromkeys(missing([name for name in folders if name.lower().endswith(TAR)]), MISSING)
    reasons |= dict.fromkeys(of_same_bytes(tars), TWICE)
    newest = max(tar.stat().st_ctime_ns for tar in tars or [path])
    return Listing(path, stamps, folders, read, reasons, in_tars=True, newest=newest)


def members(path: Path, reasons: dict[str, str]) -> Iterator[tuple[str, tarfile.TarInfo]]:
    """Files and folders of a tar by their names, which begin with that of the tar.

    Raises ValueError where it is compressed, cut short or holds no file, or a tar in it does; `reasons` gets what is
    passed over.
    """
    if path.name.lower().endswith(COMPRESSED) or head_of(path).startswith(PACKED):
        raise ValueError(f"{path}: a compressed tar cannot be read at random; unpack it or store it as .tar")
    if words := what_text(head_of(path)):
        raise ValueError(f"{path}: is {words}; expected a tar")
    with reading(path, "a whole tar"), path.open("rb") as file:
        own = list(members_within(file, 0, path.stat().st_size, f"{path.name}/", reasons))
        refuse_empty(path, own)
        has_pictures = any(name.lower().endswith(SUFFIXES) for name, _ in own)
        is_nested = [not has_pictures and name.lower().endswith(TAR) and member.isfile() for name, member in own]
        yield from itertools.compress(own, map(operator.not_, is_nested))
        for name, tar in itertools.compress(own, is_nested):
            file.seek(tar.offset_data)
            if words := what_text(file.read(min(BLOCK, tar.size))):
                raise ValueError(f"{path.parent / name}: is {words}; expected a tar")
            end = tar.offset_data + tar.size
            inside = list(members_within(file, tar.offset_data, end, f"{name}/", reasons))
            refuse_empty(path.parent / name, inside)
            yield from inside


def refuse_empty(path: Path, held: list[tuple[str, tarfile.TarInfo]]) -> None:
    """ValueError where a tar holds no file: what it should hold would be lost, be it a shard or a whole class."""
    if not any(member.isfile() for _, member in held):
        raise ValueError(f"{path}: holds no file; fill or remove it")


def members_within(
    file: BinaryIO, begin: int, end: int, before: str, reasons: dict[str, str]
) -> Iterator[tuple[str, tarfile.TarInfo]]:
    """Files and folders of the tars, one behind the other, between two positions of a file.

    Their positions are of the whole file; a hard link has that of its file.
    """
    files: dict[str, tarfile.TarInfo] = {}
    while begin < end:
        file.seek(begin)
        with tarfile.open(fileobj=file, mode="r:") as archive:
            for member in archive:
                if member.offset >= end or member.offset_data + member.size > end:
                    raise ValueError(f"cut short within {member.name!r}")
                inside = settled(member.name)
                if not inside or passes_over(inside, reasons, before):
                    continue
                if member.islnk() and (linked := files.get(settled(member.linkname))):
                    member.type, member.offset_data, member.size = linked.type, linked.offset_data, linked.size
                if member.isfile() or member.isdir():
                    files[inside] = member
                    yield before + inside, member
                else:
                    is_link = member.issym() or member.islnk()
                    reasons[before + inside] = "links" if is_link else "neither files nor folders"
        begin = next_tar(file, archive.offset, end)


def next_tar(file: BinaryIO, stop: int, end: int) -> int:
    """Where behind a tar that ends at `stop` another one begins, or `end`; ValueError where it does not end there."""
    file.seek(stop)
    if stop + BLOCK > end or any(file.read(BLOCK)):
        raise ValueError(f"cut short or damaged at byte {stop:,}, where a file or two empty blocks are expected")
    while zeros := file.read(min(AT_ONCE, end - file.tell())):
        if left := len(zeros.lstrip(b"\0")):
            return (file.tell() - left) // BLOCK * BLOCK
    return end
