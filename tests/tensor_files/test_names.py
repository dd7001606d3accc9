"""Names without their wrappers, and how one set of names differs from another."""

import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from adaln.tensor_files import misfit, unwrapped
from adaln.tensor_files.names import WRAPPERS, torn_weights
from helpers.weight_files import dit_weights as weights

CLEAN = (*weights(), "pos_embed", "y_embedder.embedding_table.weight")


@st.composite
def wrapped_names(draw):
    """Names of a network any of whose modules, itself among them, stand in any wrappers; with the clean ones."""
    modules = sorted({"", *(name[:end] for name in CLEAN for end in range(len(name)) if name[end] == ".")})
    words = st.lists(st.sampled_from([*WRAPPERS, "module"]), max_size=3)
    around = {module: draw(words) for module in draw(st.sets(st.sampled_from(modules), max_size=6))}

    def wrapped(name: str) -> str:
        parts = name.split(".")
        inside = [around.get(".".join(parts[:depth]), []) for depth in range(len(parts))]
        return ".".join(word for words, part in zip(inside, parts, strict=True) for word in (*words, part))

    return {wrapped(name): name for name in CLEAN}


@given(wrapped_names())
def test_wrappers_are_taken_out_wherever_they_stand_and_however_often(names):
    assert unwrapped(names) == {clean: original for original, clean in names.items()}


@pytest.mark.parametrize(
    ("name", "clean"),
    [
        ("blocks.0._orig_mod.attn.qkv.weight", "blocks.0.attn.qkv.weight"),
        ("transformer_blocks.0.norm1.linear.base_layer.weight", "transformer_blocks.0.norm1.linear.weight"),
        ("norm1.linear.modules_to_save.default.weight", "norm1.linear.weight"),
        ("norm1.linear.parametrizations.weight.original", "norm1.linear.weight"),
        ("norm1.linear.parametrizations.weight.original1", "norm1.linear.parametrizations.weight.original1"),
        ("my_orig_mod.weight", "my_orig_mod.weight"),
        ("encoder.base_layer_norm.weight", "encoder.base_layer_norm.weight"),
        ("layers.original", "layers.original"),
        ("attn.module", "attn.module"),
    ],
)
def test_one_name_without_its_wrappers(name, clean):
    assert unwrapped([name]) == {clean: name}


def test_a_module_that_something_stands_beside_is_no_wrapper():
    names = ["net.module.weight", "net.head.weight"]
    assert list(unwrapped(names)) == names


def test_two_names_that_become_one_are_refused():
    with pytest.raises(ValueError, match=r"'a\._orig_mod\.w' and 'a\.w' are both 'a\.w'"):
        unwrapped(["a._orig_mod.w", "a.w"])


def test_halves_of_a_weight_are_known_in_both_spellings_of_torch():
    new = torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(2, 2)).state_dict()
    spectral = torch.nn.utils.parametrizations.spectral_norm(torch.nn.Linear(2, 2)).state_dict()
    assert torn_weights(new) == ["parametrizations.weight.original0"]
    assert torn_weights(spectral) == ["parametrizations.weight.0._u", "parametrizations.weight.0._v"]
    assert torn_weights(["a.weight_g", "a.weight_v", "a.bias"]) == ["a.weight_g"]
    assert torn_weights(["to_g.weight", "img_g", "a.bias"]) == []


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
