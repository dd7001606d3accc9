"""A package whose names are imported when they are first used, so that a table of words takes no torch."""

import re
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any


def lazily(package: str) -> tuple[Callable[[str], Any], list[str]]:
    """`__getattr__` and `__all__` of a package: what its `if TYPE_CHECKING:` block imports, which is read as text.

    None of these names may be that of a module in the package, which would take its place.
    """
    itself = sys.modules[package]
    text = Path(str(itself.__file__)).read_text(encoding="utf-8")
    module_of = {name: module for module, name in re.findall(r"^    from (\S+) import \w+ as (\w+)$", text, re.M)}

    def load(name: str) -> Any:
        if name not in module_of:
            from adaln.registry import nearest

            raise AttributeError(f"module {package!r} has no attribute {name!r}{nearest(name, module_of)}")
        value = getattr(import_module(module_of[name]), name)
        setattr(itself, name, value)
        return value

    return load, sorted(module_of)
