import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Protocol

import numpy as np
import pytest

from adaln.codec import LEFT_OUT_AT_DEFAULT, canonical_json, decode, encode, json_text, leaves, name_kinds


class Shape(Protocol):
    """Anything with a colour."""

    colour: str


@dataclass(frozen=True)
class Disc:
    radius: float
    colour: str = "red"


@dataclass(frozen=True)
class Box:
    sides: tuple[float, float] = (1.0, 2.0)
    colour: Literal["red", "blue"] = "red"

    def __post_init__(self) -> None:
        if self.sides[0] < 0:
            raise ValueError(f"sides are {self.sides}; expected numbers >= 0")


name_kinds({"disc": Disc, "box": Box}, of=Shape)


@dataclass(frozen=True)
class Drawing:
    title: str
    main: Shape
    rest: tuple[Shape, ...] = ()
    only: Disc | Box | None = None
    by_name: Mapping[str, int] = field(default_factory=dict)
    widths: Disc | tuple[int, ...] = ()
    about: Any = None
    is_open: Annotated[bool, "a word for others"] = False
    cells: Sequence[str | int | float | None] = ()
    added: tuple[int, ...] = field(default=(), metadata=LEFT_OUT_AT_DEFAULT)


FULL = Drawing(
    "t", Disc(1), (Box(), Disc(2.5)), Box(), {"a": 1}, Disc(3.0), {"free": [1, "x"]}, True, ("s", 1, 0.5, None), (1, 2)
)


@pytest.mark.parametrize("drawing", [FULL, Drawing("t", Box())])
def test_a_dataclass_comes_back_from_json_as_it_was(drawing):
    assert decode(Drawing, json.loads(json.dumps(encode(drawing)))) == drawing
    assert decode(Drawing, json.loads(json_text(drawing))) == drawing


def test_json_holds_every_field_in_order_and_the_kind_first():
    row = encode(Drawing("t", Disc(1)))
    assert list(row) == ["title", "main", "rest", "only", "by_name", "widths", "about", "is_open", "cells"]
    assert list(row["main"].items()) == [("kind", "disc"), ("radius", 1), ("colour", "red")]


def test_a_field_left_out_at_its_default_is_written_as_soon_as_it_differs():
    assert "added" not in encode(Drawing("t", Box()))
    assert encode(FULL)["added"] == (1, 2)


def test_whole_numbers_stay_whole_where_any_number_may_stand():
    assert canonical_json(encode(decode(Disc, {"kind": "disc", "radius": 1}))) == canonical_json(encode(Disc(1)))


def test_numbers_that_json_lacks_are_words_that_come_back_as_numbers():
    text = json_text(Box((float("inf"), float("-inf"))))
    assert json.loads(text, parse_constant=pytest.fail)["sides"] == ["inf", "-inf"]
    assert decode(Box, json.loads(text)).sides == (float("inf"), float("-inf"))
    assert decode(Drawing, {**encode(FULL), "cells": ["nan?", "inf"]}).cells == ("nan?", float("inf"))


def test_an_array_is_its_bytes_and_their_shape():
    row = encode(np.arange(3, dtype=np.uint8).reshape(1, 3))
    assert row == {"shape": [1, 3], "dtype": "uint8", "base64": "AAEC"}


def test_what_is_neither_plain_nor_a_dataclass_is_refused():
    with pytest.raises(ValueError, match="cannot write a object as JSON"):
        encode({"a": object()})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"tittle": "x"}, "unknown field 'tittle' of drawing (nearest: 'title'); known: title, main"),
        ({"title": 3}, "drawing.title is 3; expected a text"),
        ({"main": 3}, "drawing.main is 3; expected a table with a kind: disc, box"),
        ({"main": {"radius": 1}}, "drawing.main is {'radius': 1}; expected a table with a kind: disc, box"),
        ({"main": {"kind": "disk"}}, "unknown drawing.main kind 'disk' (nearest: 'disc'); known: disc, box"),
        ({"main": {"kind": "disc"}}, "drawing.main lacks radius; expected radius, colour"),
        ({"main": {"kind": "disc", "radius": "big"}}, "drawing.main.radius is 'big'; expected a number"),
        ({"main": {"kind": "disc", "radius": True}}, "drawing.main.radius is True; expected a number"),
        ({"main": {"kind": "box", "sides": [-1, 0]}}, "drawing.main: sides are (-1, 0); expected numbers >= 0"),
        ({"main": {"kind": "box", "colour": "bleu"}}, "expected 'red' or 'blue' (nearest: 'blue')"),
        ({"main": {"kind": "box", "sides": [1]}}, "drawing.main.sides is [1]; expected a list of 2, each a number"),
        ({"rest": {"kind": "box"}}, "drawing.rest is {'kind': 'box'}; expected a list, each a table"),
        ({"only": {"kind": ["disc"]}}, "expected a table with a kind: disc or a table with a kind: box or null"),
        ({"only": {"kind": "ball"}}, "expected a table with a kind: disc or a table with a kind: box or null"),
        ({"by_name": {"a": "x"}}, "drawing.by_name.a is 'x'; expected an integer"),
        ({"widths": "x"}, "drawing.widths is 'x'; expected a table with a kind: disc or a list, each an integer"),
        ({"widths": [0.5]}, "drawing.widths is 0.5; expected an integer"),
        ({"is_open": 1}, "drawing.is_open is 1; expected true or false"),
        ({"cells": [[1]]}, "drawing.cells is [1]; expected a text or an integer or a number or null"),
    ],
)
def test_what_does_not_fit_is_named_in_one_line(change, said):
    with pytest.raises(ValueError) as error:
        decode(Drawing, {**encode(Drawing("t", Disc(1))), **change}, "drawing")
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_kinds_named_later_are_read_too():
    @dataclass(frozen=True)
    class Star:
        colour: str = "gold"

    name_kinds({"star": Star}, of=Shape)
    assert decode(Drawing, encode(Drawing("t", Star()))).main == Star()


def test_leaves_are_all_that_is_no_mapping_by_its_path():
    row = {"a": {"b": 1, "c": {"d": [1, 2]}}, "e": None}
    assert dict(leaves(row)) == {"a.b": 1, "a.c.d": [1, 2], "e": None}
    assert list(leaves(row, " / "))[1] == ("a / c / d", [1, 2])


@dataclass(frozen=True)
class Picture:
    pixels: np.ndarray


def test_an_array_is_read_as_it_was_written_and_what_is_none_is_named():
    pixels = np.arange(6, dtype=np.uint8).reshape(1, 2, 3)
    row = json.loads(json_text(Picture(pixels)))
    read = decode(Picture, row).pixels
    assert read.dtype == np.uint8 and np.array_equal(read, pixels)
    with pytest.raises(ValueError, match=r"pixels is .*expected an array: shape, dtype and base64"):
        decode(Picture, {"pixels": {"shape": [1]}})
