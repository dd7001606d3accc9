"""Safetensors files: whole or refused, read row by row, float8 exactly."""

import errno
import os

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from adaln.rng import generator
from adaln.tensor_files import TensorFile, is_whole, load_tensors, save_tensors, shapes
from adaln.types import as_rows
from helpers.weight_files import dit_weights as weights
from helpers.weight_files import same

CHUNK = 1 << 18


def test_integers_are_tensors_too(tmp_path):
    tensors = {"step": torch.tensor(7), "mask": torch.tensor([True, False]), "w": torch.ones(2, dtype=torch.bfloat16)}
    save_file(tensors, tmp_path / "w.safetensors")
    assert same(dict(TensorFile(tmp_path / "w.safetensors")), tensors)


def test_rows_of_a_file_are_read_exactly_across_chunk_borders(tmp_path):
    whole = torch.randn(3000, 200, generator=generator("describe test", "file"))
    save_file({"other": torch.ones(7), "w": whole, "empty": torch.zeros(0, 4)}, tmp_path / "w.safetensors")
    file = TensorFile(tmp_path / "w.safetensors")
    rows = slice(17, 2900)
    assert whole[rows].numel() > 2 * CHUNK
    assert torch.equal(torch.cat([chunk.clone() for chunk in file.chunks("w", rows, CHUNK)]), whole[rows].reshape(-1))
    assert torch.equal(file["w"], whole)
    assert file["empty"].shape == (0, 4)
    assert shapes(file)["w"].shape == whole.shape
    assert sorted(file) == ["empty", "other", "w"]


@pytest.mark.parametrize("shape", [(6, 4), (1, 6, 4), (1, 1, 6, 4), (6,)])
def test_rows_of_a_table_are_counted_past_leading_dimensions_of_1(tmp_path, shape):
    whole = torch.arange(torch.Size(shape).numel(), dtype=torch.float32).reshape(shape)
    save_file({"table": whole, "scalar": torch.tensor(7.0)}, tmp_path / "w.safetensors")
    file = TensorFile(tmp_path / "w.safetensors")
    assert torch.equal(torch.cat(list(file.chunks("table", slice(2, 5), CHUNK))), as_rows(whole)[2:5].reshape(-1))
    assert next(file.chunks("scalar", slice(None), CHUNK)).tolist() == [7.0]


def test_a_torn_or_foreign_file_is_one_clear_line(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file(weights(), path)
    path.write_bytes(path.read_bytes()[:-1])
    for broken in (path, tmp_path / "missing.safetensors"):
        with pytest.raises(ValueError, match="is not a complete safetensors file"):
            TensorFile(broken)


@pytest.mark.parametrize("damage", [b"", b"\x80\x04pickle", b"\xff" * 64, b"\x10\x00\x00\x00\x00\x00\x00\x00{}"])
def test_a_truncated_or_foreign_checkpoint_is_one_line(tmp_path, damage):
    file = tmp_path / "model.safetensors"
    file.write_bytes(damage)
    with pytest.raises(ValueError, match="not a complete safetensors file") as error:
        load_tensors(file)
    assert "\n" not in str(error.value)


def test_disk_errors_keep_their_meaning(tmp_path, monkeypatch):
    def full(*args):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("adaln.tensor_files.safetensors_files.save_file", full)
    with pytest.raises(OSError, match="No space left on device") as error:
        save_tensors(tmp_path / "x.safetensors", {"a": torch.zeros(1)})
    assert error.value.errno in (None, errno.ENOSPC)


@pytest.mark.parametrize(
    "dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz]
)
def test_every_value_of_float8_is_read_exactly_whole_and_in_chunks(tmp_path, dtype):
    stored = torch.arange(256, dtype=torch.uint8).view(dtype).reshape(16, 16)
    save_file({"w": stored, "other": torch.ones(3)}, tmp_path / "w.safetensors")
    file = TensorFile(tmp_path / "w.safetensors")
    assert shapes(file)["w"].dtype == file["w"].dtype == torch.bfloat16
    chunks = torch.cat([chunk.clone() for chunk in file.chunks("w", slice(2, 16), 100)])
    torch.testing.assert_close(file["w"].float(), stored.float(), rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(chunks.float(), stored[2:].float().reshape(-1), rtol=0, atol=0, equal_nan=True)


def test_tensors_under_other_names_are_the_same_tensors(tmp_path):
    save_file(weights(), tmp_path / "w.safetensors")
    file = TensorFile(tmp_path / "w.safetensors").under({"a": "final_layer.linear.weight"})
    assert same(dict(file), {"a": weights()["final_layer.linear.weight"]})
    assert torch.equal(next(file.chunks("a", slice(1, 2), CHUNK)), file["a"][1])


def test_a_file_is_readable_by_whom_the_umask_lets_and_one_that_may_not_be_read_is_called_so(tmp_path, monkeypatch):
    file = tmp_path / "a.safetensors"
    before = os.umask(0o027)
    try:
        save_tensors(file, {"a": torch.ones(2)})
    finally:
        os.umask(before)
    assert file.stat().st_mode & 0o777 == 0o640
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(PermissionError, match=r"a\.safetensors"):
        is_whole(file)
