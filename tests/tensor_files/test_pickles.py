"""What torch.save wrote: settings of any class lie beside weights unread, and nothing in the file is ever called."""

import builtins
import collections
import datetime
import enum
import os
import pathlib
import subprocess
from argparse import Namespace
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from adaln.tensor_files import load_pickle, open_weights
from adaln.tensor_files.pickles import Inert
from helpers.weight_files import dit_weights as weights
from helpers.weight_files import same


class Calls:
    """What calls a function when it is unpickled."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def make_marker(path):
    """Stands for any function of any library."""
    pathlib.Path(path).touch()


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (os.mkdir, ("ran",)),
        (os.system, ("touch ran",)),
        (builtins.exec, ("open('ran', 'w')",)),
        (builtins.open, ("ran", "w")),
        (subprocess.call, (["touch", "ran"],)),
    ],
)
@pytest.mark.parametrize("key", ["args", "ema"])
def test_what_would_act_is_refused_by_name_and_not_called(tmp_path, monkeypatch, function, arguments, key):
    monkeypatch.chdir(tmp_path)
    torch.save({"model": weights(), key: Calls(function, *arguments)}, "net.pt")
    with pytest.raises(ValueError, match=f"would call '.*{function.__name__}'.*code is never run") as error:
        open_weights(pathlib.Path("net.pt"))
    assert str(error.value).isprintable()
    assert not pathlib.Path("ran").exists()


def test_a_function_of_any_library_is_not_called_either(tmp_path):
    torch.save({"model": weights(), "args": Calls(make_marker, str(tmp_path / "ran"))}, tmp_path / "net.pt")
    assert same(open_weights(tmp_path / "net.pt").tensors, weights())
    assert not (tmp_path / "ran").exists()


def test_a_function_that_the_file_looks_up_itself_is_refused(tmp_path):
    torch.save({"model": weights(), "args": Calls(pathlib.Path.touch, tmp_path / "ran")}, tmp_path / "net.pt")
    with pytest.raises(ValueError, match=r"net\.pt' .*code is never run from a file"):
        open_weights(tmp_path / "net.pt")
    assert not (tmp_path / "ran").exists()


class Attributes(dict):
    """As easydict and ml_collections have it."""

    def __init__(self, **values):
        super().__init__(values)
        self.__dict__.update(values)


@dataclass
class Settings:
    lr: float
    root: pathlib.PurePosixPath


@dataclass(slots=True)
class Slotted:
    lr: float


class Kind(enum.Enum):
    FLOW = 1


HARMLESS = {
    "numpy number": np.float64(3.2),
    "numpy whole number": np.int64(5),
    "numpy array": np.zeros(3, np.float32),
    "numpy texts": np.array(["a", "b"]),
    "argparse": Namespace(lr=1e-4, root=pathlib.PosixPath("/data"), best=np.float32(1)),
    "path": pathlib.PurePosixPath("/data"),
    "dataclass": Settings(1e-4, pathlib.PurePosixPath("/data")),
    "slots": Slotted(1e-4),
    "enum": Kind.FLOW,
    "easydict": Attributes(lr=1e-4),
    "deque": collections.deque([1.0, 2.0], maxlen=3),
    "defaultdict": collections.defaultdict(list, a=[1]),
    "counter": collections.Counter("ab"),
    "time": datetime.datetime(2026, 1, 1),
    "set": {1, 2},
    "complex": 1j,
    "slice": slice(3),
    "type": torch.nn.Linear,
    "function": torch.nn.functional.silu,
    "module": torch.nn.Linear(2, 2),
    "dtype": torch.bfloat16,
    "device": torch.device("cpu"),
    "optimiser": torch.optim.AdamW([torch.nn.Parameter(torch.zeros(3))]).state_dict(),
}


@pytest.mark.parametrize("zipped", [True, pytest.param(False, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", HARMLESS)
def test_harmless_things_beside_weights_are_no_hindrance(tmp_path, kind, zipped):
    if not zipped and kind in ("type", "module"):
        pytest.skip("old files keep the source code of networks")
    saved = {"epoch": 3, "ema": weights(1), "model": weights(), "extra": HARMLESS[kind]}
    torch.save(saved, tmp_path / "net.pt", _use_new_zipfile_serialization=zipped)
    assert same(open_weights(tmp_path / "net.pt").tensors, weights(1))
    assert same(open_weights(tmp_path / "net.pt", "model").tensors, weights())


def test_many_kinds_of_settings_in_one_file_are_no_hindrance(tmp_path):
    attributes = {kind: HARMLESS[kind] for kind in ("numpy array", "argparse", "dataclass", "slots", "enum", "time")}
    torch.save({"state_dict": weights(), "hyper_parameters": attributes}, tmp_path / "net.ckpt")
    assert same(open_weights(tmp_path / "net.ckpt").tensors, weights())


def test_a_network_that_was_pickled_whole_is_read_without_its_class(tmp_path):
    network = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3), torch.nn.Sequential(torch.nn.SiLU()))
    torch.save(network, tmp_path / "net.pt")
    torch.save({"epoch": 1, "ema": network}, tmp_path / "inside.pt")
    expected = dict(network.state_dict())
    assert same(dict(load_pickle(tmp_path / "net.pt")), expected)
    assert same(open_weights(tmp_path / "inside.pt").tensors, expected)


def test_weights_that_are_arrays_of_numpy_are_weights(tmp_path):
    torch.save({"ema": {name: tensor.numpy() for name, tensor in weights().items()}}, tmp_path / "net.pt")
    assert same(open_weights(tmp_path / "net.pt").tensors, weights())


def test_a_tensor_of_a_class_that_is_not_read_is_named_and_not_dropped(tmp_path):
    torch.save({"model": {**weights(), "blocks.9.attn.weight": Settings(1.0, "int4")}}, tmp_path / "net.pt")
    with pytest.raises(ValueError, match=r"'blocks\.9\.attn\.weight' is of type .*Settings, which is not read"):
        open_weights(tmp_path / "net.pt")


UNLIKE_MATRICES = {
    "float32, layout sparse_coo": lambda: torch.ones(8, 8).to_sparse(),
    "float64, layout sparse_csr": lambda: torch.ones(8, 8, dtype=torch.float64).to_sparse_csr(),
    "float32, nested": lambda: torch.nested.nested_tensor([torch.ones(3, 8), torch.ones(2, 8)]),
    "float32, on the meta device": lambda: torch.empty(8, 8, device="meta"),
}


@pytest.mark.parametrize("kind", UNLIKE_MATRICES)
@pytest.mark.filterwarnings("ignore:Sparse CSR", "ignore:The PyTorch API of nested")
def test_a_tensor_whose_values_do_not_lie_row_by_row_is_named(tmp_path, kind):
    torch.save({**weights(), "blocks.0.attn.proj.weight": UNLIKE_MATRICES[kind]()}, tmp_path / "net.pt")
    with pytest.raises(ValueError, match=rf"'blocks\.0\.attn\.proj\.weight' is of type {kind}.*, which is not read"):
        open_weights(tmp_path / "net.pt")


@pytest.mark.parametrize("loaded", [[torch.zeros(3)], torch.zeros(3), {}, 3, Namespace(a=1)])
def test_what_is_no_mapping_of_names_is_refused(tmp_path, loaded):
    torch.save(loaded, tmp_path / "net.pt")
    with pytest.raises(ValueError, match="expected tensors by name"):
        open_weights(tmp_path / "net.pt")


def test_another_protocol_of_pickle_is_named_without_advice_to_run_code(tmp_path):
    torch.save(weights(), tmp_path / "net.pt", pickle_protocol=4)
    with pytest.raises(ValueError, match=r"saved with a pickle_protocol above 2; torch\.save without one") as error:
        open_weights(tmp_path / "net.pt")
    assert "weights_only" not in str(error.value) and str(error.value).isprintable()


def test_an_inert_object_keeps_its_attributes_and_the_name_of_its_class(tmp_path):
    torch.save({"a": Settings(0.5, "here")}, tmp_path / "net.pt")
    found = load_pickle(tmp_path / "net.pt")["a"]
    assert isinstance(found, Inert) and vars(found) == {"lr": 0.5, "root": "here"}
    assert type(found).stands_for.endswith(".Settings")


@pytest.mark.parametrize("place", ["weights", "pickle"])
@pytest.mark.parametrize("change", [lambda part: bytes(len(part)), lambda part: bytes([part[0] ^ 1]) + part[1:]])
def test_bytes_that_are_not_what_was_written_are_named_although_torch_reads_them(tmp_path, place, change):
    torch.save(weights(), tmp_path / "net.pt")
    content = (tmp_path / "net.pt").read_bytes()
    begin = content.index(b"blocks.0") if place == "pickle" else len(content) // 2
    (tmp_path / "cut.pt").write_bytes(content[:begin] + change(content[begin : begin + 16]) + content[begin + 16 :])
    with pytest.raises(ValueError, match=r"cut.pt' is damaged: '\w+/data.*CRC-32"):
        open_weights(tmp_path / "cut.pt")


def test_a_file_without_sums_is_read(tmp_path):
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(weights(), tmp_path / "net.pt")
    finally:
        torch.serialization.set_crc32_options(True)
    assert same(open_weights(tmp_path / "net.pt").tensors, weights())
