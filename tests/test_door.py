"""What `import adaln` offers."""

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import adaln

NAMES = sorted(set(adaln.__all__) - {"__version__"})
PAGE = (Path(__file__).parents[1] / "docs" / "python.md").read_text(encoding="utf-8")
HEAVY = {"torch", "numpy", "scipy", "matplotlib", "tyro"}


def test_importing_adaln_takes_no_torch():
    code = f"import sys, adaln; dir(adaln), adaln.__version__, adaln.register; print(*{HEAVY} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_the_page_lists_the_names_that_there_are():
    cells = re.findall(r"^\| (`.*?) \|", PAGE, re.MULTILINE)
    assert sorted(re.findall(r"`(\w+)`", " ".join(cells))) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_each_name_says_what_it_is(name: str):
    value = getattr(adaln, name)
    described = value if inspect.isroutine(value) or inspect.isclass(value) else type(value)
    assert len(inspect.getdoc(described) or "") > 20
    assert name in dir(adaln)


def test_a_name_that_is_not_there_is_answered_with_the_nearest():
    with pytest.raises(AttributeError, match=r"module 'adaln' has no attribute 'initialize' \(nearest: 'initialise'\)"):
        adaln.initialize  # noqa: B018
