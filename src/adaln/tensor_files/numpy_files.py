"""NumPy's files (npy) and archives (npz), anyone's: shape and type are known before a value; nothing is unpickled."""

import math
import zipfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

from adaln.files import reading
from adaln.tensor_files.content import check_alone, what_is, what_text

SUFFIX = ".npy"


@dataclass(frozen=True, slots=True)
class Header:
    """What an array says of itself before its values."""

    shape: tuple[int, ...]
    dtype: np.dtype
    is_column_major: bool


@dataclass(frozen=True, slots=True)
class Npz:
    """An npz whose list of arrays could be read; what is wrong with one is a `ValueError` that names the file."""

    path: Path
    names: tuple[str, ...]

    @classmethod
    def open(cls, path: Path) -> "Npz":
        """The archive at `path`; `ValueError` where that is none, with what it is instead."""
        with path.open("rb") as file:
            is_zip = file.read(2) == b"PK"
        if not is_zip and (words := what_is(path)):
            raise ValueError(f"{path}: is {words}; expected an npz")
        with _reading(path), zipfile.ZipFile(path) as archive:
            check_alone(path, archive)
            return cls(path, tuple(name.removesuffix(SUFFIX) for name in archive.namelist()))

    def header(self, name: str) -> Header:
        """Shape and type of an array, whose member has exactly as many bytes."""
        with _reading(self.path), self._member(name) as (_, header):
            return header

    def array(self, name: str) -> np.ndarray:
        """A whole array; `ValueError` for pickled objects."""
        with _reading(self.path), self._member(name) as (_, header):
            if header.dtype.hasobject:
                raise ValueError(f"'{name}' holds pickled objects ({header.dtype}), expected numbers")
        with _reading(self.path), zipfile.ZipFile(self.path) as archive, archive.open(name + SUFFIX) as file:
            array: np.ndarray = npy.read_array(file, allow_pickle=False)
            return array

    def pieces(self, name: str, num_rows: int) -> Iterator[np.ndarray]:
        """An array's rows, so many at a time, read through the zip: never more lies in memory."""
        with _reading(self.path), self._member(name) as (file, header):
            if header.is_column_major:
                raise ValueError(f"'{name}' is in Fortran order, expected C order")
            count, *shape = header.shape
            row_bytes = math.prod(shape) * header.dtype.itemsize
            for start in range(0, count, num_rows):
                data = file.read(min(num_rows, count - start) * row_bytes)
                yield np.frombuffer(bytearray(data), header.dtype).reshape(-1, *shape)

    @contextmanager
    def _member(self, name: str) -> Iterator[tuple[Any, Header]]:
        """The open member just before the first value of its array."""
        with zipfile.ZipFile(self.path) as archive, archive.open(name + SUFFIX) as file:
            yield file, _read_header(file, name, archive.getinfo(name + SUFFIX).file_size)


def load_npy(path: Path) -> np.ndarray:
    """The array in an npy file; `ValueError` that names the file where it is damaged, or holds pickled objects."""
    with reading(path, "an intact npy file"), path.open("rb") as file:
        head = file.read(512)
        if not head.startswith(npy.MAGIC_PREFIX) and (words := what_text(head)):
            raise ValueError(f"it is {words}")
        file.seek(0)
        _read_header(file, "it", path.stat().st_size)
        file.seek(0)
        array: np.ndarray = npy.read_array(file, allow_pickle=False)
        return array


def _reading(path: Path) -> AbstractContextManager[None]:
    return reading(path, "an intact npz")


def _read_header(file: Any, name: str, num_bytes: int) -> Header:
    """What is before the first value of an array of so many bytes in all."""
    version = npy.read_magic(file)
    read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, is_column_major, dtype = read_header(file)
    left = num_bytes - file.tell()
    if not dtype.hasobject and (min(shape, default=0) < 0 or left != math.prod(shape) * dtype.itemsize):
        raise ValueError(f"{name!r} says {dtype} {shape}, but {left} bytes follow")
    return Header(shape, dtype, is_column_major)
