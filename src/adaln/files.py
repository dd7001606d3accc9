"""Files and folders that are either wholly there or not there at all.

What is written goes to a temporary name, is synced to the disk and renamed: a kill or a full disk at any moment leaves
what was there before.
"""

import errno
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import IO

try:
    import fcntl
except ModuleNotFoundError as error:
    raise ImportError("adaln needs Linux, macOS or WSL: native Windows has no locks of files (fcntl)") from error

_TEMPORARY = ".tmp-"
_OF_CONTENT = (None, errno.EINVAL, errno.ENAMETOOLONG)
"""Errors of the system that a position or a name in a file leads to."""
PATIENCE_SECONDS = 10.0
"""How long whoever finds a claim held waits for its holder, which may have been killed or be saving its last state."""


def expanded(path: Path | str) -> Path:
    """A path whose `~` is a home folder; `ValueError` where there is no such home."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ValueError(f"{str(path)!r} begins with a home folder that is not to be found") from error


def default_cache() -> Path:
    """`$ADALN_CACHE`, else `adaln` in the user's cache folder; `ValueError` where neither is known."""
    if chosen := os.environ.get("ADALN_CACHE"):
        return Path(chosen)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "adaln"
    except RuntimeError:
        raise ValueError(
            "this user has no home folder for a cache; set ADALN_CACHE to a folder that can be written"
        ) from None


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A temporary folder that becomes `path` when the block ends well, and is removed when it does not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f"{_TEMPORARY}{path.name}-{os.getpid()}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        for file in temporary.iterdir():
            _sync(file)
        _sync(temporary)
        temporary.rename(path)
        _sync(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """A temporary file, for the block to write, that takes the place of `path` when the block ends well.

    What killed writers of the same file left behind goes then.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{_TEMPORARY}{path.name}-{os.getpid()}")
    try:
        with naming(path):
            yield temporary
            _sync(temporary)
            temporary.replace(path)
        for leftover in temporaries(path.parent, f"{path.name}-"):
            if not _is_running(leftover.name.rpartition("-")[2]):
                leftover.unlink(missing_ok=True)
    finally:
        temporary.unlink(missing_ok=True)


def write_atomically(path: Path, content: str | bytes) -> Path:
    """Replace the file `path` by `content`, synced to disk: readers see the old or the new, never a part."""
    with atomic_file(path) as temporary:
        temporary.write_bytes(content.encode(errors="backslashreplace") if isinstance(content, str) else content)
    return path


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, read piece by piece."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def locked(path: Path, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold the lock file `path`, which dies with the process; until it is free, `waiting` is called every now and then.

    What `waiting` raises ends the waiting.
    """
    with _open_lock(path) as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                waiting()
                time.sleep(0.1)
        yield


def _open_lock(path: Path) -> IO[str]:
    try:
        return path.open("w")
    except PermissionError:
        if not path.exists():
            raise
        return path.open()  # of another user; what can be read can be held


@contextmanager
def claimed(path: Path, refusal: str) -> Iterator[None]:
    """Hold the lock file `path`, or raise ValueError(refusal) where another still does after `PATIENCE_SECONDS`."""
    deadline = time.monotonic() + PATIENCE_SECONDS

    def lose_patience() -> None:
        if time.monotonic() >= deadline:
            raise ValueError(refusal) from None

    with locked(path, lose_patience):
        yield


def is_held(path: Path) -> bool:
    """Whether somebody holds the lock file `path` now."""
    if not path.exists():
        return False
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """In this block an error of the disk that does not tell of which file names this one."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from None


@contextmanager
def filling(cache: Path) -> Iterator[None]:
    """In this block a cache that lacks something and cannot be written is a `ValueError` that names it."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENOENT):
            raise
        raise ValueError(
            f"the cache {str(cache)!r} lacks what is needed and cannot be written ({error.strerror}:"
            f" {error.filename}); set ADALN_CACHE to a folder that can"
        ) from None


@contextmanager
def about(path: Path) -> Iterator[None]:
    """In this block a `ValueError` that does not name the file begins with its name, where there is such a file."""
    try:
        yield
    except ValueError as error:
        shown = str(path if path.name else path.resolve())  # the folder that one stands in
        if shown not in str(error) and path.exists():
            error.args = (f"{shown!r}: {error}",)
        raise


@contextmanager
def reading(path: Path, expected: str) -> Iterator[None]:
    """In this block whatever is raised over the content of a file is a `ValueError` of one line that names the file.

    For bytes and libraries: of what they meet in a foreign file they raise nearly anything. What the system says of a
    file (it is missing, the disk fails) stays an `OSError`, a `ValueError` that names the file stays as it is; a name
    that is not defined, or an import, is a fault of the program whatever the file holds.

    >>> with reading(Path("a.json"), "a list of numbers"):
    ...     float("x")
    Traceback (most recent call last):
    ValueError: 'a.json' is not a list of numbers: could not convert string to float: 'x'
    """
    try:
        with naming(path):
            yield
    except (NameError, ImportError):
        raise
    except Exception as error:
        names_file = isinstance(error, ValueError) and str(path) in str(error)
        if names_file or (isinstance(error, OSError) and error.errno not in _OF_CONTENT):
            raise
        raise ValueError(f"{str(path)!r} is not {expected}: {reason(error)}") from error


def reason(error: Exception) -> str:
    """What an exception says, in one line; a bare key or nothing at all by its type.

    >>> reason(KeyError("spec")), reason(EOFError())
    ("it has no 'spec'", 'EOFError')
    """
    words = " ".join(str(error).split())
    is_key = isinstance(error, KeyError) and not isinstance(error, ValueError)  # an unknown name says it all itself
    return f"it has no {words}" if is_key else words or type(error).__name__


def remove_folder(path: Path) -> None:
    """Remove a folder that may be there: at no moment is a part of it to be seen under its name."""
    if path.is_dir():
        temporary = path.with_name(f"{_TEMPORARY}{path.name}-{os.getpid()}")
        shutil.rmtree(temporary, ignore_errors=True)
        path.rename(temporary)
        shutil.rmtree(temporary, ignore_errors=True)


def temporaries(root: Path, name: str = "") -> list[Path]:
    """What is being written or was left by killed writers: anything in `root`, or what is to be called `name`."""
    return list(root.glob(f"{_TEMPORARY}{escape(name)}*")) if root.is_dir() else []


def remove_temporaries(root: Path, name: str = "") -> None:
    """Remove what killed writers left behind: of anything in `root`, or of what was to be called `name`."""
    for leftover in temporaries(root, name):
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


def _is_running(process: str) -> bool:
    """Whether a process of this machine has that number; of what is no number it is not known, and taken to be so."""
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except (ValueError, OverflowError, PermissionError):
        pass
    return True


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def oldest_first(files: Iterable[Path]) -> list[Path]:
    """By the time that they were written; those that are gone by now are passed over."""
    times = {}
    for file in files:
        with suppress(FileNotFoundError):
            times[file] = file.stat().st_mtime_ns
    return sorted(times, key=lambda file: (times[file], file.name))
