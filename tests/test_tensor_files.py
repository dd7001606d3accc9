"""Tensors in files: opened whoever wrote them, described, saved, and held against a network."""

import errno
import os
import re
from argparse import Namespace
from dataclasses import asdict

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from adaln.analysis.audit import audit
from adaln.models import MODELS, build
from adaln.rng import generator
from adaln.tensor_files import TensorFile, load_tensors, misfit, open_weights, save_tensors, shapes
from adaln.types import DataSpec
from helpers.foreign import foreign

CHUNK = 1 << 18


def weights(seed=0):
    return dict(build(MODELS["tiny"], DataSpec(1, 8, 8, 10), generator("tensor files", seed)).state_dict())


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_of_a_training_checkpoint_the_averaged_weights_are_taken_unless_the_raw_ones_are_asked_for(tmp_path):
    """As DiT saves them: with the optimiser, and the command line as an argparse Namespace."""
    raw, averaged = weights(seed=1), weights(seed=2)
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(3))])
    saved = {"model": raw, "ema": averaged, "opt": optimizer.state_dict(), "args": Namespace(model="DiT-S/2")}
    torch.save(saved, tmp_path / "0400000.pt")
    assert same(open_weights(tmp_path / "0400000.pt").tensors, averaged)
    assert same(open_weights(tmp_path / "0400000.pt", "model").tensors, raw)
    torch.save({"state_dict": raw, "epoch": 3}, tmp_path / "other.ckpt")
    assert same(open_weights(tmp_path / "other.ckpt").tensors, raw)
    with pytest.raises(ValueError, match="no set of weights 'ema'; it has model"):
        open_weights(tmp_path / "other.ckpt", "ema")


@pytest.mark.parametrize("zipped", [True, False])
def test_bare_weights_in_either_format_of_torch_save_are_read(tmp_path, zipped):
    torch.save(weights(), tmp_path / "net.pt", _use_new_zipfile_serialization=zipped)
    assert same(open_weights(tmp_path / "net.pt").tensors, weights())


class Harmful:
    """What makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_code_in_a_file_is_refused_and_not_run(tmp_path):
    torch.save({"model": weights(), "extra": Harmful(tmp_path / "ran")}, tmp_path / "net.pt")
    with pytest.raises(ValueError, match="code is never run from a file") as error:
        open_weights(tmp_path / "net.pt")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("net.safetensors", b"short", "not a complete safetensors file"),
        ("net.pt", b"no pickle at all", "no file that torch.save wrote|holds more than weights"),
        ("net.txt", b"", "no file that torch.save wrote"),
    ],
)
def test_damaged_and_foreign_files_are_one_line(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=said) as error:
        open_weights(tmp_path / name)
    assert "\n" not in str(error.value)


def test_a_missing_file_names_the_nearest(tmp_path):
    torch.save(weights(), tmp_path / "net.pt")
    with pytest.raises(ValueError, match=r"do not exist \(nearest: '.*net\.pt'\)"):
        open_weights(tmp_path / "nett.pt")


def test_a_list_of_tensors_is_refused(tmp_path):
    torch.save([torch.zeros(3)], tmp_path / "net.pt")
    with pytest.raises(ValueError, match="holds a list; expected tensors by name"):
        open_weights(tmp_path / "net.pt")


@pytest.mark.parametrize("shard_size", ["10GB", "20KB"])
@pytest.mark.parametrize("inside", ["", "transformer"])
def test_a_folder_of_diffusers_is_read_from_its_safetensors_whole_or_in_shards(tmp_path, shard_size, inside):
    model = foreign("SD3.5")
    model.save_pretrained(tmp_path / inside, max_shard_size=shard_size)
    shards = list((tmp_path / inside).glob("*.safetensors"))
    assert (len(shards) > 1) == (shard_size == "20KB")
    opened = open_weights(tmp_path).tensors
    assert same(dict(opened), model.state_dict())
    assert {name: meta.shape for name, meta in shapes(opened).items()} == {n: t.shape for n, t in opened.items()}
    assert asdict(audit(opened)) == asdict(audit(model.state_dict()))


def test_a_folder_that_has_only_a_pickle_is_read_as_that_file_is(tmp_path):
    file = tmp_path / "diffusion_pytorch_model.bin"
    torch.save(weights(), file)
    opened = open_weights(tmp_path)
    assert (opened.file, opened.taken) == (file, None)
    assert same(opened.tensors, weights())
    torch.save(Harmful(tmp_path / "ran"), file)
    with pytest.raises(ValueError, match="code is never run from a file"):
        open_weights(tmp_path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["optimizer.bin", "model.safetensors", "config.json"])
def test_a_folder_is_no_model_because_of_what_else_lies_in_it(tmp_path, name):
    """The tensors of a training state, say, or weights of who knows which network."""
    save_file(weights(), tmp_path / name)
    with pytest.raises(ValueError, match="is no run and no diffusers model") as error:
        open_weights(tmp_path)
    assert "\n" not in str(error.value)


def test_what_a_file_is_decides_its_content_where_its_name_does_not(tmp_path):
    save_file(weights(), tmp_path / "a.weights")
    torch.save({"ema": weights()}, tmp_path / "b.weights")
    assert same(dict(open_weights(tmp_path / "a.weights").tensors), weights())
    assert open_weights(tmp_path / "b.weights").taken == "ema"


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


def test_a_torn_or_foreign_file_is_one_clear_line(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file(weights(), path)
    path.write_bytes(path.read_bytes()[:-1])
    for broken in (path, tmp_path / "missing.safetensors"):
        with pytest.raises(ValueError, match="is not a complete safetensors file"):
            TensorFile(broken)


def spelled_out(entry: str) -> set[str]:
    """
    >>> sorted(spelled_out("a.0-1,5.b"))
    ['a.0.b', 'a.1.b', 'a.5.b']
    """
    ranged = re.fullmatch(r"(.*?\.)([\d,-]+)(\..*)", entry)
    if ranged is None:
        return {entry}
    spans = [[int(end) for end in span.split("-")] for span in ranged[2].split(",")]
    return {f"{ranged[1]}{i}{ranged[3]}" for span in spans for i in range(span[0], span[-1] + 1)}


def test_every_name_that_does_not_fit_is_told():
    """Block numbers as ranges, so that each of thousands of names is in the line."""
    expected = weights()
    given = {f"net.{name}": tensor for name, tensor in expected.items()}
    told = re.fullmatch(r"missing (.*); unexpected (.*)", misfit(expected, given))
    missing, unexpected = told[1], re.sub(r" \(nearest: '[^']*'\)", "", told[2])
    for listed, names in ((missing, expected), (unexpected, given)):
        assert set().union(*map(spelled_out, listed.split(", "))) == set(names)


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

    monkeypatch.setattr("adaln.tensor_files.save_file", full)
    with pytest.raises(OSError, match="No space left on device") as error:
        save_tensors(tmp_path / "x.safetensors", {"a": torch.zeros(1)})
    assert error.value.errno in (None, errno.ENOSPC)
