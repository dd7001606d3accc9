"""Archives of arrays: what is intact is read whole or in pieces, everything else is one line with the file's name."""

import random
import struct
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaln.tensor_files import Npz, load_npy
from helpers.mutations import mutated

ARRAY = np.arange(60, dtype=np.float32).reshape(5, 4, 3)
LOCAL, CENTRAL = b"PK\x03\x04", b"PK\x01\x02"
"""Where the headers of a zip begin."""


def header_of(shape: str, descr: str = "'<f4'") -> bytes:
    """The first bytes of an npy that says this of itself."""
    words = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    words += b" " * (-(len(words) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(words)) + words


def member(content: bytes):
    """Damage: an archive whose only member is this."""

    def write(path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a.npy", content)

    return write


def changed(at: int, value: bytes, *headers: bytes):
    """Damage: bytes of each of these headers, counted from its beginning."""

    def write(path) -> None:
        content = bytearray(path.read_bytes())
        for header in headers:
            begin = content.index(header) + at - (2 if header == LOCAL else 0)
            content[begin : begin + len(value)] = value
        path.write_bytes(content)

    return write


def cut(path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flipped(path) -> None:
    content = bytearray(path.read_bytes())
    content[content.index(b"NUMPY") + 200] ^= 1
    path.write_bytes(content)


DAMAGE = {
    "cut": cut,
    "a value changed": flipped,
    "zip version 9.9": changed(6, b"\x63\x00", CENTRAL),
    "encrypted": changed(8, b"\x01\x00", LOCAL, CENTRAL),
    "unknown compression": changed(10, b"\x63\x00", LOCAL, CENTRAL),
    "deflated, says the header": changed(10, b"\x08\x00", LOCAL, CENTRAL),
    "LZMA, says the header": changed(10, b"\x0e\x00", LOCAL, CENTRAL),
    "no npy": member(b"something else"),
    "empty": member(b""),
    "a terabyte of nothing": member(header_of("(1000, 1000, 1000, 250)") + bytes(100)),
    "more than an integer": member(header_of(f"({10**30},)") + bytes(100)),
    "a negative shape": member(header_of("(-5, -5)") + bytes(100)),
    "a shape of text": member(header_of("'x'") + bytes(100)),
    "an open bracket": member(header_of("((((((") + bytes(100)),
    "an unknown type": member(header_of("(5,)", "'<q9'") + bytes(100)),
    "Python objects": member(header_of("(1,)", "'|O'") + b"cos\nsystem\n."),
    "zeros": lambda path: path.write_bytes(bytes(500)),
    "text": lambda path: path.write_text("<!doctype html><title>Sign in</title>"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_archive_is_one_line_with_its_name(tmp_path, damage):
    path = tmp_path / "a.npz"
    np.savez(path, a=ARRAY)
    DAMAGE[damage](path)
    for read in (lambda npz: npz.array("a"), lambda npz: [*npz.pieces("a", 2)]):
        with pytest.raises(ValueError) as caught:
            read(Npz.open(path))
            raise AssertionError("read") if damage != "Python objects" else ValueError(str(path))
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 9), st.sampled_from([np.savez, np.savez_compressed]), st.sampled_from(["<f4", ">f8", "|u1", "<i8"])
)
def test_pieces_are_the_array(tmp_path_factory, num_rows, save, kind):
    path = tmp_path_factory.mktemp("npz") / "a.npz"
    array = ARRAY.astype(kind)
    save(path, a=array, b=np.zeros(()))
    npz = Npz.open(path)
    assert npz.names == ("a", "b") and npz.header("a").shape == array.shape
    np.testing.assert_array_equal(np.concatenate([*npz.pieces("a", num_rows)]), array)
    np.testing.assert_array_equal(npz.array("a"), array)


def test_a_pointer_is_called_one(tmp_path):
    path = tmp_path / "a.npz"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12345\n")
    with pytest.raises(ValueError, match=r"a\.npz: is a pointer of Git LFS, not the file of 12,345 bytes"):
        Npz.open(path)


def test_other_bytes_are_refused_by_name_or_change_nothing(tmp_path):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, a=ARRAY)
    content = path.read_bytes()
    for number in range(100):
        path.write_bytes(mutated(content, random.Random(number)))
        try:
            array = Npz.open(path).array("a")
        except ValueError as error:
            assert str(path) in str(error)
        else:
            np.testing.assert_array_equal(array, ARRAY)


@pytest.mark.parametrize("content", [b"", b"x" * 200, header_of("(1000, 1000, 1000, 250)"), header_of("(1,)", "'|O'")])
def test_an_npy_that_is_none_is_named(tmp_path, content):
    path = tmp_path / "0.npy"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"0\.npy' is not an intact npy file: "):
        load_npy(path)


def test_an_archive_put_before_another_one_is_refused_for_it_would_be_lost(tmp_path):
    for name in "ab":
        np.savez(tmp_path / f"{name}.npz", arr_0=ARRAY)
    both = (tmp_path / "a.npz").read_bytes() + (tmp_path / "b.npz").read_bytes()
    (tmp_path / "c.npz").write_bytes(both)
    with pytest.raises(ValueError, match=r"c\.npz' is not an intact npz: another zip stands before it"):
        Npz.open(tmp_path / "c.npz")
