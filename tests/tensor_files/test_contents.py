"""Checkpoints that are more than dictionaries: averages are read or named, and no tensor of a network vanishes."""

import io
from argparse import Namespace
from collections import UserDict
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from adaln.tensor_files import load_pickle, open_weights
from adaln.tensor_files.contents import contents
from helpers.weight_files import dit_weights as weights
from helpers.weight_files import same

RAW, AVERAGED = weights(), weights(1)


def saved(value):
    file = io.BytesIO()
    torch.save(value, file)
    return file


READ = {
    "object": SimpleNamespace(decay=0.999, shadow=AVERAGED),
    "command line": Namespace(params=AVERAGED),
    "user's dictionary": UserDict(AVERAGED),
    "pair with a decay": (AVERAGED, 0.999),
    "list with nothing": [AVERAGED, None],
    "names and values": list(AVERAGED.items()),
    "keys of bytes": {name.encode(): tensor for name, tensor in AVERAGED.items()},
    "by its decay": {0.9999: AVERAGED},
}


@pytest.mark.parametrize("kind", READ)
def test_an_average_is_read_from_whatever_holds_it_by_name(tmp_path, kind):
    torch.save({"model": RAW, "ema": READ[kind]}, tmp_path / "net.pt")
    opened = open_weights(tmp_path / "net.pt")
    assert opened.taken == "ema" and same(dict(opened.tensors), AVERAGED)


class Settings(dict):
    """As configs are that fill themselves like a dictionary."""


@pytest.mark.parametrize("average", [SimpleNamespace(shadow=AVERAGED), torch.nn.Linear(8, 8)])
def test_an_object_is_read_beside_settings_that_fill_themselves_like_a_dictionary(tmp_path, average):
    torch.save({"model": RAW, "ema": average, "settings": Settings(lr=1)}, tmp_path / "net.pt")
    names = contents(load_pickle(tmp_path / "net.pt")).tensors.keys()
    assert names & {"ema.weight", "ema.shadow.blocks.0.attn.proj.weight"}


NAMELESS = {
    "object with a list": {"ema": SimpleNamespace(shadow=list(AVERAGED.values()))},
    "list in a list": {"ema": [list(AVERAGED.values())]},
    "by number": {"ema": dict(enumerate(AVERAGED.values()))},
    "flat": {"ema": torch.cat([tensor.flatten() for tensor in AVERAGED.values()])},
    "of an optimiser": {
        "optimizer": {"state": {0: {"exp_avg": torch.ones(3), "ema": torch.ones(3)}}, "param_groups": []}
    },
}


@pytest.mark.parametrize("kind", NAMELESS)
def test_an_average_without_names_is_refused_wherever_it_lies_and_the_raw_weights_are_offered(tmp_path, kind):
    torch.save({"model": RAW, **NAMELESS[kind]}, tmp_path / "net.pt")
    with pytest.raises(ValueError, match=r"averaged weights are a list without names, .*--weights model takes the raw"):
        open_weights(tmp_path / "net.pt")
    assert same(dict(open_weights(tmp_path / "net.pt", "model").tensors), RAW)


@pytest.mark.parametrize(
    ("average", "said"),
    [
        (saved(AVERAGED), "'ema' lies _io.BytesIO"),
        (saved(AVERAGED).getvalue(), "'ema' lies bytes"),
        ("run/ema.pt", "'ema' lies the path 'run/ema.pt'"),
    ],
)
def test_what_may_hold_an_average_and_is_not_read_is_said(tmp_path, average, said):
    torch.save({"model": RAW, "ema": average}, tmp_path / "net.pt")
    opened = open_weights(tmp_path / "net.pt")
    assert same(dict(opened.tensors), RAW) and any(said in note for note in opened.notes)


@pytest.mark.parametrize("setting", [0.999, None, "on", {"decay": 0.9}, Namespace(decay=0.9), [0.9, 0.99]])
def test_a_setting_of_averages_is_no_average(tmp_path, setting):
    torch.save({"model": RAW, "ema": setting}, tmp_path / "net.pt")
    opened = open_weights(tmp_path / "net.pt")
    assert same(dict(opened.tensors), RAW) and not opened.notes


def test_moments_of_an_optimiser_are_no_averages_and_an_object_that_holds_itself_is_read_once(tmp_path):
    optimiser = {"state": {0: {"square_avg": torch.ones(3), "exp_avg": torch.ones(3)}}, "param_groups": []}
    itself = SimpleNamespace(step=3)
    itself.trainer = itself
    torch.save({"model": RAW, "optimizer": optimiser, "trainer": itself}, tmp_path / "net.pt")
    assert same(dict(open_weights(tmp_path / "net.pt").tensors), RAW)


def test_keys_that_are_numbers_are_parts_of_names(tmp_path):
    nested: dict = {}
    for name, tensor in RAW.items():
        *outer, last = (int(word) if word.isdigit() else word for word in name.split("."))
        node = nested
        for word in outer:
            node = node.setdefault(word, {})
        node[last] = tensor
    torch.save({"model": nested}, tmp_path / "net.pt")
    assert same(dict(open_weights(tmp_path / "net.pt").tensors), RAW)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (None, "NoneType"),
        ([torch.ones(8)], "list"),
        ([[1.0, 2.0]], "list"),
        ((torch.ones(8), 2), "tuple"),
        (np.zeros((8, 8), "V2"), r"\|V2 of numpy"),
        (np.array([[1.0]], object), "object of numpy"),
        (np.zeros((8, 8), np.longdouble), "float128 of numpy"),
    ],
)
def test_what_stands_for_a_weight_and_is_no_tensor_is_refused_by_its_name_and_type(tmp_path, value, kind):
    torch.save({"model": {**RAW, "blocks.0.attn.proj.weight": value}}, tmp_path / "net.pt")
    with pytest.raises(ValueError, match=rf"'blocks\.0\.attn\.proj\.weight' is of type {kind}, which is not read"):
        open_weights(tmp_path / "net.pt")


def test_extra_state_of_modules_is_no_weight(tmp_path):
    torch.save({**RAW, "blocks.0.attn._extra_state": None}, tmp_path / "net.pt")
    assert same(dict(open_weights(tmp_path / "net.pt").tensors), RAW)


@pytest.mark.parametrize(
    "states",
    [
        {"states": [{"model": RAW}, {"ema": AVERAGED}]},
        {"states": [{"model": RAW, "ema": AVERAGED}, {"model": RAW}]},
        {"checkpoints": [{"step": 1, "net": RAW}, {"step": 2, "net": AVERAGED}]},
        {"states": {"step_1": {"model": RAW}, "step_2": {"model": AVERAGED}}},
        {"states": ({"a": RAW}, {"b": AVERAGED})},
        {"model": RAW, "emas": [{"decay": 0.9, "model": RAW}, {"decay": 0.99, "model": AVERAGED}]},
        {"history": [RAW, AVERAGED]},
    ],
)
def test_states_in_a_list_are_never_merged(tmp_path, states):
    torch.save(states, tmp_path / "net.pt")
    with pytest.raises(ValueError, match=r"networks stand under '.*' and '.*'; expected one of them as --prefix"):
        open_weights(tmp_path / "net.pt")


def test_of_states_in_a_list_the_prefix_chooses(tmp_path):
    torch.save({"states": [{"model": RAW}, {"ema": AVERAGED}]}, tmp_path / "net.pt")
    opened = open_weights(tmp_path / "net.pt", prefix="states.1.ema")
    assert same(opened.tensors, AVERAGED) and opened.taken == "ema"


def test_a_network_whose_blocks_are_dictionaries_of_their_own_is_one(tmp_path):
    whole = {"model": {"blocks": {}}}
    for name, tensor in RAW.items():
        *words, last = name.split(".")
        level = whole["model"]
        for word in words:
            level = level.setdefault(word, {})
        level[last] = tensor
    torch.save(whole, tmp_path / "net.pt")
    assert same(open_weights(tmp_path / "net.pt").tensors, RAW)
