"""The table of families, as a command and as a page."""

import re
from pathlib import Path

import pytest

from adaln.conditioning import FAMILIES, Family, Layer, Role
from adaln.views.families import family_facts, functions, last_layer, page, path_in_words
from helpers.command_line import data, run

ROOT = Path(__file__).parents[2]


def test_the_page_is_what_the_command_makes():
    assert (ROOT / "docs" / "families.md").read_text(encoding="utf-8") == page(FAMILIES), (
        "run: adaln families --out docs/families.md"
    )


@pytest.mark.parametrize(
    ("layers", "path"),
    [
        ((Layer("blocks.N.mod", "attn: gate"),), "own matrix"),
        ((Layer("t.*", "attn: gate"), Layer("blocks.N.table", "attn: gate", "table")), "shared matrix + tables"),
        ((Layer("mod.lin", "attn: gate", shared_by="blocks"),), "shared matrix"),
        ((Layer("blocks.N.b", "attn: gate", "low_rank"),), "low rank"),
        ((Layer("norm_out.linear", "final: scale shift"),), "last layer only"),
        ((), "no modulation"),
    ],
)
def test_where_rows_are_is_said_in_words(layers, path):
    assert path_in_words(Family(layers)) == path


def test_what_values_go_through_is_said_in_formulas():
    family = Family((Layer("blocks.N.mod", "attn: scale(sigmoid) gate(sigmoid_of_one_minus); mlp: scale gate"),))
    assert functions(family, Role.GATE) == "sigmoid(1 - g), g"
    assert functions(family, Role.SCALE) == "sigmoid, 1 + s"
    assert functions(family, Role.SHIFT) == ""
    assert last_layer(Family((Layer("norm_out.linear", "final: scale shift"),))) == "scale, shift"


def test_every_family_says_where_its_rows_are_and_which_classes_it_has():
    for name, family in FAMILIES.items():
        facts = family_facts(name, family)
        assert facts["path"], name
        assert not re.search(r"\s$", facts["surprise"]), name


def test_the_command_lists_all_and_tells_one_in_full(capsys):
    everything = data(capsys, "families")
    assert [row["family"] for row in everything] == list(FAMILIES)
    text = run(capsys, "families", "Flux")
    assert "single_transformer_blocks.N.norm.linear" in text and "FluxTransformer2DModel" in text
