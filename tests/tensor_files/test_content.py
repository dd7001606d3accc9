"""What a file is that holds no weights."""

import io
import json
import tarfile
import zipfile

import numpy as np
import pytest
import torch

from adaln.tensor_files import open_weights, what_is


def archive(kind, **members):
    buffer = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(buffer, "w") as opened:
            for name, content in members.items():
                opened.writestr(name, content)
    else:
        with tarfile.open(fileobj=buffer, mode="w") as opened:
            opened.addfile(tarfile.TarInfo("a"))
    return buffer.getvalue()


def arrays():
    buffer = io.BytesIO()
    np.savez(buffer, weight=np.ones(3))
    return buffer.getvalue()


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "ab" * 32 + "\nsize 2701234567\n"
CONTENTS = {
    "Git LFS, not the file of 2,701,234,567 bytes": POINTER.encode(),
    "a web page": b"\n<!DOCTYPE html>\n<html><body>Sign in</body></html>",
    r"a web page \(Too many requests\)": b"<HTML><head><title> Too many requests</title>",
    "a JSON text that begins": json.dumps({"error": "Invalid username or password."}).encode(),
    "a text that begins 'Entry not found'": b"Entry not found",
    "an empty file": b"",
    "zero bytes only": bytes(10_000),
    "a GGUF file": b"GGUF\x03\0\0\0",
    "an HDF5 file, as Keras": b"\x89HDF\r\n\x1a\n" + bytes(8),
    "an ONNX model": b"\x08\x07\x12\x07pytorch\x1a\x052.1.0",
    "a tar archive": archive("tar"),
    "a gzip archive": b"\x1f\x8b\x08\0",
    r"a zip archive \(net/a\.txt\)": archive("zip", **{"net/a.txt": "x"}),
    "a Keras model": archive("zip", **{"model.weights.h5": "x", "config.json": "{}"}),
    "an archive of NumPy arrays": arrays(),
    "a zip archive that was cut short": b"PK\x03\x04" + bytes(30),
    "a NumPy array": b"\x93NUMPY\x01\0",
}


@pytest.mark.parametrize("ending", ["pt", "safetensors"])
@pytest.mark.parametrize("said", CONTENTS)
def test_bytes_that_are_no_weights_are_called_what_they_are(tmp_path, said, ending):
    file = tmp_path / f"net.{ending}"
    file.write_bytes(CONTENTS[said])
    with pytest.raises(ValueError, match=f"net.{ending}' is {'' if said.startswith('a') else '.*'}{said}") as error:
        open_weights(file)
    line = str(error.value)
    assert line.isprintable() and "code" not in line and "weights_only" not in line


def test_control_characters_of_a_text_are_not_passed_on(tmp_path):
    (tmp_path / "a").write_bytes(b"\x1b[1mbold\x1b[0m")
    assert what_is(tmp_path / "a") == ""


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_program_of_torchscript_is_called_one(tmp_path):
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "net.pt")
    with pytest.raises(ValueError, match="a TorchScript program: save its state_dict"):
        open_weights(tmp_path / "net.pt")


def test_nothing_is_said_of_what_holds_weights(tmp_path):
    torch.save({"a": torch.ones(2)}, tmp_path / "a.pt")
    assert what_is(tmp_path / "a.pt") == ""
