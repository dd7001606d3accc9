"""Packages whose names are imported when they are first used."""

import ast
import inspect
from importlib import import_module
from pathlib import Path

import pytest

from adaln.lazily import lazily

SOURCE = Path(__file__).parents[1] / "src" / "adaln"
LAZY = [
    ".".join(file.parent.relative_to(SOURCE.parent).parts)
    for file in SOURCE.rglob("__init__.py")
    if "lazily(__name__)" in file.read_text(encoding="utf-8")
]


@pytest.mark.parametrize("package", LAZY)
def test_every_name_is_there_and_editors_see_where_it_comes_from(package: str):
    room = import_module(package)
    blocks = [node for node in ast.parse(inspect.getsource(room)).body if isinstance(node, ast.If)]
    seen = {alias.asname: line.module for block in blocks for line in block.body for alias in line.names}
    assert seen.keys() == set(room.__all__) - {"__version__"} and seen
    assert all(getattr(room, name) is getattr(import_module(module), name) for name, module in seen.items())


@pytest.mark.parametrize("package", LAZY)
def test_no_name_is_that_of_a_module_which_would_take_its_place(package: str):
    folder = SOURCE.parent.joinpath(*package.split("."))
    modules = {path.stem for path in folder.iterdir()}
    assert not modules & set(import_module(package).__all__)


def test_a_name_that_is_not_there_is_answered_with_the_nearest():
    load, names = lazily("adaln.models")
    assert "MODELS" in names
    with pytest.raises(AttributeError, match=r"module 'adaln.models' has no attribute 'MODEL' \(nearest: 'MODELS'\)"):
        load("MODEL")
