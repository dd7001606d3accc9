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


def test_every_public_name_has_an_example():
    public = {name: getattr(adaln, name) for name in adaln.__all__ if name != "__version__"}
    warnings = {name for name, of in public.items() if isinstance(of, type) and issubclass(of, Warning)}
    assert [name for name, of in public.items() if ">>> " not in (of.__doc__ or "") and name not in warnings] == []


@pytest.mark.parametrize("name", MODULES)
def test_examples_print_what_they_say(name: str):
    found = doctest.testmod(import_module(name))
    assert found.attempted
    assert not found.failed
