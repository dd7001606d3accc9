"""Libraries that are not always there: which extra brings each, and one line where it lacks."""

import ast
import sys
import tomllib
from pathlib import Path

import pytest

from adaln.cli.commands import EXTRAS, _code_and_line, main
from helpers.command_line import fails

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
NAMES = {"pillow": "PIL", "scikit-learn": "sklearn"}
"""What some packages are imported as."""
BROUGHT_ALONG = {"threadpoolctl", "IPython", "torch_fidelity"}
"""What scikit-learn brings along, what a notebook is, and the peer of one benchmark."""


def package(requirement):
    name = requirement.split(">")[0].split("[")[0]
    return NAMES.get(name, name.replace("-", "_"))


def imported(file):
    """Packages that a module imports, but for those of annotations alone."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    annotations = [n for n in ast.walk(tree) if isinstance(n, ast.If) and "TYPE_CHECKING" in ast.dump(n.test)]
    passed = {id(inner) for block in annotations for inner in ast.walk(block)}
    for node in ast.walk(tree):
        if id(node) in passed:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.partition(".")[0]


def test_every_library_that_is_imported_is_a_dependency_or_of_a_named_extra():
    core = BROUGHT_ALONG | {package(each) for each in PROJECT["dependencies"]} | {"adaln"} | sys.stdlib_module_names
    others = {name for file in (ROOT / "src").rglob("*.py") for name in imported(file)} - core
    assert others and not others - EXTRAS.keys()
    brought = {package(each): extra for extra, all_of in PROJECT["optional-dependencies"].items() for each in all_of}
    for name, extra in EXTRAS.items():
        if name != "httpx2":  # which huggingface_hub brings along
            assert name in {package(each) for each in PROJECT["optional-dependencies"][extra]}, (name, brought[name])


@pytest.mark.parametrize(
    ("library", "command"),
    [
        ("optuna", "search digits --over gate --trials 1 --steps 1"),
        ("huggingface_hub", "audit hf:org/name"),
        ("huggingface_hub", f"push {ROOT / 'tests/goldens/run/at_step_5'} org/name"),
        ("datasets", "train digits --steps 1 --data.path hf:org/name"),
        pytest.param("wandb", "train digits --steps 1 --track wandb", marks=pytest.mark.slow),
    ],
)
def test_a_library_that_lacks_is_named_with_its_extra_in_one_line(library, command, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, library, None)
    assert f"pip install 'adaln[{EXTRAS[library]}]'" in fails(capsys, *command.split())


def test_a_library_that_lacks_anywhere_else_is_named_as_well():
    code, line = _code_and_line(ModuleNotFoundError("No module named 'diffusers.models'", name="diffusers.models"))
    assert (code, line) == (2, "error: this needs diffusers: pip install 'adaln[diffusers]'")


def test_the_version_of_the_package_is_that_of_the_project(capsys):
    main(["--version"])
    assert capsys.readouterr().out.strip() == PROJECT["version"]
