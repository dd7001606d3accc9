"""What lies beneath a root, be it a folder or a zip: files with their stamps, folders, and how a file is read."""

import os
import re
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from adaln.data.pictures import SUFFIXES, one_at_a_time
from adaln.files import reading, reason
from adaln.tensor_files import check_alone, what_is

FURNITURE = (
    r"@eaDir(?:@\w+)?|@Recycle|@Recently-Snapshot|@__thumb|@tmp|@Transcode|@sharesnap|#recycle|#snapshot|~snapshot"
    r"|\$RECYCLE\.BIN|(?-i:RECYCLER|Recycled)|FOUND\.\d{3}|System Volume Information|lost\+found|Network Trash Folder"
    r"|iPod Photo Cache|_vti_cnf|__pycache__"
)
"""Folders that disk stations and systems keep among a user's own."""
PASSED_OVER = re.compile(rf"(?:^|/)(\.[^/]*|__MACOSX[^/]*|(?:{FURNITURE})(?=/|$))", re.IGNORECASE)
"""Dot files, the resource forks that macOS packs into its zips, and furniture, at any depth."""
LEADS_BACK = "links that lead back"


@dataclass(frozen=True, slots=True)
class Listing:
    """Every file and folder beneath a root but for those that are `passed_over`."""

    path: Path
    stamps: dict[str, tuple[int, int]]
    """Of each file: size and modification time (folder, tar) or CRC (zip)."""
    folders: set[str]
    read: Callable[[str], bytes]
    """The content of a file; `ValueError` or `OSError` where it cannot be read."""
    passed_over: dict[str, str]
    """Why a file, or a folder with all that lies in it, is none of the set: `hidden`, or the name of its kind."""
    in_tars: bool = False
    """Names begin with the name of the tar that they lie in: shards of one set may repeat the names inside."""
    newest: int = 0
    """When a file last changed, whatever its time says (ctime, in ns); 0 where the stamps say all."""

    @property
    def pictures(self) -> list[str]:
        """Names of the files that are pictures, sorted."""
        return sorted(name for name in self.stamps if name.lower().endswith(SUFFIXES))


def passes_over(name: str, reasons: dict[str, str], before: str = "") -> bool:
    """Whether what has that name (in `before`) is none of a set; `reasons` gets the file or folder that makes it so."""
    match = PASSED_OVER.search(name)
    if match:
        part = match[1]
        is_hidden = part.startswith(".") or part.upper().startswith("__MACOSX")
        reasons[before + name[: match.end()]] = "hidden" if is_hidden else part
    return match is not None


def settled(name: str) -> str:
    """The one form of a name within a set: parts with forward slashes between, without `./`, `../`, `/` or `//`.

    >>> settled("./set//cat\\\\0.png"), settled("../../set/cat/")
    ('set/cat/0.png', 'set/cat')
    """
    if "\0" in name:
        raise ValueError(f"the name {name!r} holds a NUL; expected names of files")
    if "\\" not in name and "//" not in name and "./" not in name and name[:1] not in ("/", ".") and name[-1:] != "/":
        return name
    parts: list[str] = []
    for part in name.replace("\\", "/").split("/"):
        if part == "..":
            parts[-1:] = []
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


def list_folder(root: Path) -> Listing:
    """Files and folders beneath `root`. Links are followed, but for those to a folder that they lie in."""
    stamps, folders, paths, reasons = dict[str, tuple[int, int]](), set[str](), dict[str, str](), dict[str, str]()
    newest, twice = 0, list[str]()
    above = frozenset(identity(folder.stat()) for folder in (root, *root.resolve().parents))
    to_visit = [("", str(root), above)]
    while to_visit:
        inside, here, chain = to_visit.pop()
        for entry in os.scandir(here):
            if passes_over(entry.name, reasons, inside):
                continue
            name = settled(inside + entry.name)
            twice += [name] if name in stamps else []
            try:
                status = entry.stat()
            except OSError:  # a dangling link: a folder's is counted, a file's then fails to be read
                if PurePosixPath(name).suffix:
                    stamps[name] = (0, 0)
                else:
                    reasons[name] = "links to nothing"
                continue
            if entry.is_dir():
                if identity(status) in chain:
                    reasons[name] = LEADS_BACK
                    continue
                folders.add(name)
                to_visit.append((name + "/", entry.path, chain | {identity(status)}))
            else:
                stamps[name] = (status.st_size, status.st_mtime_ns)
                newest = max(newest, status.st_ctime_ns)
            if name != inside + entry.name:  # with backslashes, as some programs unpack
                paths[name] = entry.path
                folders.update(parents(name))
    if twice:
        raise ValueError(f"{root}: holds {twice[0]!r} twice, once with a backslash; expected every name once")
    return Listing(
        root, stamps, folders, lambda name: Path(paths.get(name, root / name)).read_bytes(), reasons, newest=newest
    )


def identity(status: os.stat_result) -> tuple[int, int]:
    """What two paths to one folder have in common."""
    return status.st_dev, status.st_ino


def list_zip(path: Path) -> Listing:
    """Members of a zip, which stays open. Raises ValueError where it is none, is damaged or holds a name twice."""
    if not zipfile.is_zipfile(path) and (words := what_is(path)):
        raise ValueError(f"{path}: is {words}; expected a folder, zip or tar of pictures")
    with reading(path, "a readable zip"):
        archive = zipfile.ZipFile(path)
        check_alone(path, archive)
        entries = {settled(entry.orig_filename): entry for entry in reversed(archive.infolist())}
    stamps, folders, reasons = dict[str, tuple[int, int]](), set[str](), dict[str, str]()
    for entry in archive.infolist():
        name = settled(entry.orig_filename)
        if not name or passes_over(name, reasons):
            continue
        folders.update(parents(name))
        if entry.orig_filename.endswith(("/", "\\")):
            folders.add(name)
        elif name in stamps:
            raise ValueError(f"{path}: holds {name!r} twice; expected every name once")
        else:
            stamps[name] = (entry.file_size, entry.CRC)

    def read(name: str) -> bytes:
        try:
            return archive.read(entries[name])
        except Exception as error:  # of a damaged or encrypted member, or of what some compression cannot expand
            raise ValueError(reason(error)) from error

    return Listing(path, stamps, folders, one_at_a_time(read), reasons)


def ending(name: str) -> str:
    """The ending by which a file that is no picture is counted.

    >>> ending("cat/0.JFIF"), ending("LICENSE")
    ('.jfif', 'without an ending')
    """
    return PurePosixPath(name).suffix.lower() or "without an ending"


def parents(name: str) -> Iterator[str]:
    """`"a"` and `"a/b"` of `"a/b/c"`."""
    parts = name.split("/")
    return ("/".join(parts[:depth]) for depth in range(1, len(parts)))
