"""A family in a file: what `adaln audit --discover` prints and `--layout FILE` takes, everywhere a family is taken."""

import json
import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any

from adaln.codec import decode
from adaln.conditioning.families import FAMILIES
from adaln.conditioning.family import Family, Layer, alternatives, any_of, name_pattern, parts
from adaln.files import reading

_WORDS = ("head", "no_rows", "static_gates", "backbone", "branch_ends", "ungated_ends")
"""The fields of a family that are patterns, word by word."""
_OTHER = r"(?!N(?:\.|$))"
_NAME = re.compile(rf"{_OTHER}[\w-]+(\.{_OTHER}[\w-]+)*?(\.N)?(\.{_OTHER}[\w#*-]+)*")
"""The name of a layer, of one with alternatives each of them."""


def family_named(family: str | Family) -> tuple[str, Family]:
    """The family that a name or a layout file (.toml) means, and its name; one that is a family already is it.

    Raises `ValueError` naming the nearest known family, or what is wrong with the file.
    """
    if isinstance(family, Family):
        return "given", family
    if family.endswith(".toml"):
        return Path(family).stem, load_family(Path(family))
    return family, FAMILIES[family]


def load_family(path: Path) -> Family:
    """The family that a layout file describes: `[[layers]]` with name, rows, path, ..., and a family's other words."""
    if not path.exists():
        raise ValueError(f"layout file {str(path)!r} does not exist")
    with reading(path, "a layout file"):
        row = tomllib.loads(path.read_text(encoding="utf-8"))
        if "inputs" in row:
            raise ValueError("inputs are code, which no file holds; expected them beside the network (module:factory)")
        family = decode(Family, row)
        _check(family)
        return family


def _check(family: Family) -> None:
    """`ValueError` naming what in a family names no layers, or is no pattern."""
    if not family.layers:
        raise ValueError("no [[layers]]; expected the name and the rows of each modulation layer")
    if family.generated_by:
        raise ValueError("generated_by is for networks that have no layers with rows; expected one of the two")
    lines = Counter((layer.name, layer.path, layer.width_of, *map(len, parts(layer.rows))) for layer in family.layers)
    (name, *_), count = lines.most_common(1)[0]
    if count > 1:
        raise ValueError(f"{count} layers {name!r} have as many rows each; expected one")
    for layer in family.layers:
        _check_layer(layer)
    for field, word, pattern in _patterns(family):
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"{field}: {word!r} is no pattern of names ({error})") from None


def _check_layer(layer: Layer) -> None:
    try:
        name_pattern(layer)
        is_name = all(map(_NAME.fullmatch, alternatives(layer.name)))
    except re.error:
        is_name = False
    if not is_name:
        raise ValueError(
            f"{layer.name!r} is no name of layers; expected words with dots between, N for a block's number, * and #"
            " for numbers behind it, (a|b) for one of two: blocks.N.adaLN_modulation.*"
        )
    num_parts = len(parts(layer.rows))
    if isinstance(layer.width_of, tuple) and len(layer.width_of) != num_parts:
        raise ValueError(
            f"{layer.name!r}: width_of lists {len(layer.width_of)} modules; expected one for each of the {num_parts}"
            f" parts of rows {layer.rows!r}"
        )


def _patterns(family: Family) -> Iterator[tuple[str, str, str]]:
    """Field, word and regular expression of all that a family says in patterns besides its layers."""
    for field in _WORDS:
        for word in getattr(family, field).split():
            yield field, word, any_of(word)
    yield "signs", family.signs, family.signs
    for field in ("groups", "paper_names"):
        for name, pattern in getattr(family, field).items():
            yield f"{field}.{name}", pattern, pattern


def family_text(family: Family) -> str:
    """A family as a layout file holds it.

    >>> print(family_text(Family((Layer("blocks.N.mod", "attn: shift scale"),), head="out")))
    head = "out"
    <BLANKLINE>
    [[layers]]
    name = "blocks.N.mod"
    rows = "attn: shift scale"
    """
    tables = [["[[layers]]", *_lines(layer)] for layer in family.layers]
    return "\n".join(line for table in [_lines(family), *tables] for line in (*table, ""))[:-1].rstrip("\n")


def _lines(row: Family | Layer) -> list[str]:
    """The texts of a row that are not at their default, and its lists of texts."""
    values = [(word, getattr(row, word.name)) for word in fields(row)]
    return [f"{word.name} = {json.dumps(value)}" for word, value in values if _is_written(word, value)]


def _is_written(word: "Field[Any]", value: object) -> bool:
    is_text = isinstance(value, str | bool) or (isinstance(value, tuple) and all(isinstance(v, str) for v in value))
    return is_text and (word.default is MISSING or value != word.default)
