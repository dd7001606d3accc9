"""Many pictures of a source, decoded in parallel and given back in order."""

import os
import zipfile
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import UInt8

from adaln.data.pictures import decode, is_colour
from adaln.data.sources import Source

UNREADABLE = (OSError, RuntimeError, EOFError, zipfile.BadZipFile, zlib.error)
"""What reading a member of a damaged or encrypted zip, or a vanished file, may raise."""
AT_ONCE = 256
"""Pictures that are decoded in parallel before they are given back in order."""
Mode = Literal["L", "RGB"]


def stored_mode(source: Source) -> Mode:
    """L if all pictures are stored as grey, else RGB."""
    return "RGB" if any(is_colour(read_or_nothing(source, name)) for name in source.names) else "L"


def read_or_nothing(source: Source, name: str) -> bytes:
    """The encoded picture; nothing if it cannot be read, which is told when it is decoded."""
    try:
        return source.read(name)
    except UNREADABLE:
        return b""


def decode_all(
    source: Source, size: int | None, mode: Mode, among: range | None = None
) -> Iterator[UInt8[np.ndarray, "C H W"] | ValueError]:
    """Every picture (or those `among`) in order, or why it cannot be decoded."""

    def one(name: str) -> UInt8[np.ndarray, "C H W"] | ValueError:
        try:
            return decode(source.read(name), size, mode)
        except (ValueError, *UNREADABLE) as error:
            return ValueError(str(error))

    names = source.names if among is None else source.names[among.start : among.stop]
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow decodes outside the interpreter lock
        for start in range(0, len(names), AT_ONCE):
            yield from pool.map(one, names[start : start + AT_ONCE])


def stop_at(path: Path, bad: list[str], skip_bad: bool) -> None:
    """Raise at the first bad image unless bad images are to be skipped."""
    if bad and not skip_bad:
        raise ValueError(f"{path}: cannot decode image {bad[0]}; repair it or set on_bad_image to 'skip'")


def check_shape(source: Source, index: int, found: tuple[int, ...], first: int, expected: tuple[int, ...]) -> None:
    """Raise unless picture `index` has the shape that picture `first` has."""
    if found != expected:
        sizes = [f"{source.names[i]} {h}x{w}" for i, (_, h, w) in ((first, expected), (index, found))]
        raise ValueError(f"{source.path}: images differ in size ({', '.join(sizes)}); set one size to crop them to")
