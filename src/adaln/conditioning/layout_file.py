"""A family in a file: what `adaln audit --discover` prints and `--layout FILE` takes, everywhere a family is taken."""

import json
import tomllib
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any

from adaln.codec import decode
from adaln.conditioning.families import FAMILIES
from adaln.conditioning.family import Family, Layer, chunks


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
    try:
        family = decode(Family, tomllib.loads(path.read_text(encoding="utf-8")))
        if not family.layers:
            raise ValueError("no [[layers]]; expected the name and the rows of each modulation layer")
        for layer in family.layers:
            chunks(layer.rows)
    except FileNotFoundError:
        raise ValueError(f"layout file {str(path)!r} does not exist") from None
    except ValueError as error:  # TOML and UTF-8 errors are ValueErrors too
        raise ValueError(f"layout file {str(path)!r}: {error}") from None
    return family


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
