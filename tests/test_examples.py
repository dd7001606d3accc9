"""The examples in docstrings print what they say."""

import doctest
from importlib import import_module
from pathlib import Path

import pytest

import adaln

ROOT = Path(adaln.__file__).parent
MODULES = [
    ".".join(("adaln", *file.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")
    for file in sorted(ROOT.rglob("*.py"))
    if ">>> " in file.read_text(encoding="utf-8")
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_print_what_they_say(name: str):
    found = doctest.testmod(import_module(name))
    assert found.attempted
    assert not found.failed
