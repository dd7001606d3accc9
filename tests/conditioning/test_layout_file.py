"""Layout files: what they hold comes back, and what is no layout is refused by the word that is wrong."""

import pytest

from adaln.conditioning import FAMILIES, family_named, family_text

LAYER = '[[layers]]\nname = "blocks.N.mod"\nrows = "attn: shift scale; mlp: gate"\n'


def named(name):
    return LAYER.replace("blocks.N.mod", name)


@pytest.mark.parametrize("name", [name for name, family in FAMILIES.items() if family.layers])
def test_the_layers_of_a_known_family_come_back(name, tmp_path):
    file = tmp_path / "layout.toml"
    file.write_text(family_text(FAMILIES[name]), encoding="utf-8")
    assert family_named(str(file))[1].layers == FAMILIES[name].layers


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (named(""), "'' is no name of layers"),
        (named("blocks.N.(x"), r"'blocks\.N\.\(x' is no name of layers"),
        (named("blocks.N.[a"), r"'blocks\.N\.\[a' is no name of layers"),
        (named("*.N.x"), r"'\*\.N\.x' is no name of layers"),
        (named("a.*.N.x"), r"'a\.\*\.N\.x' is no name of layers"),
        (named("blocks.N.units.N.x"), r"is no name of layers; expected .* N for a block's number"),
        (named("blocks.N.#.x.#"), "is no name of layers"),
        ('no_rows = "embed (a"\n' + LAYER, r"no_rows: '\(a' is no pattern of names"),
        ('head = "out proj["\n' + LAYER, r"head: 'proj\[' is no pattern"),
        ('signs = "a)"\n' + LAYER, r"signs: 'a\)' is no pattern"),
        ('backbone = "attn mlp("\n' + LAYER, r"backbone: 'mlp\(' is no pattern"),
        (LAYER + '[groups]\nmine = "*a"', r"groups\.mine: '\*a' is no pattern"),
        (LAYER + "[inputs]\nNet = 3", "inputs are code, which no file holds"),
        (LAYER + 'width_of = ["a"]', "'blocks.N.mod': width_of lists 1 modules; expected one for each of the 2 parts"),
        (LAYER + LAYER, "2 layers 'blocks.N.mod' have as many rows each; expected one"),
        ('generated_by = "approximator"\n' + LAYER, "generated_by is for networks that have no layers with rows"),
    ],
)
def test_a_layout_file_names_the_word_that_is_wrong(text, message, tmp_path):
    file = tmp_path / "layout.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=rf"is not a layout file: .*{message}"):
        family_named(str(file))
