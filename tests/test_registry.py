"""Named choices from within and from plug-ins."""

import logging
import pickle
import sys
from functools import partial
from importlib import import_module
from pathlib import Path

import pytest

from adaln import registry
from adaln.metrics import METRICS
from adaln.metrics import registry as metrics
from adaln.processes import SOLVERS, solvers
from adaln.registry import KINDS, LISTED, BrokenPlugin, Later, Registry, UnknownName, register, with_registered
from adaln.studies import SCALES, STUDIES, scales
from adaln.studies import registry as studies

BROKEN = "plug-in 'solver.broken' of shapes cannot be used: ZeroDivisionError: division by zero"


def installed(folder: Path, distribution: str, *points: str) -> None:
    """A distribution as an installer leaves it, without its modules."""
    info = folder / f"{distribution}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[adaln.plugins]\n" + "\n".join(points) + "\n")


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A folder of installed packages with the module `shapes`, and no registry but those of the test."""
    (tmp_path / "shapes.py").write_text("square, circle = 4, 'round'\n")
    (tmp_path / "shapes_broken.py").write_text("square = 1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(registry, "_open", {})
    monkeypatch.setattr(registry, "KINDS", dict.fromkeys(registry.KINDS, "adaln.registry"))
    monkeypatch.setattr(registry, "_registered", {})
    registry._plugins.cache_clear()
    yield tmp_path
    registry._plugins.cache_clear()
    for name in ("shapes", "shapes_broken"):
        sys.modules.pop(name, None)


def test_a_plugin_is_found_by_name_and_among_all_names(packages: Path):
    installed(packages, "shapes", "solver.square = shapes:square")
    solvers = Registry("solver", {"euler": 1}, accepts=int)
    assert solvers["square"] == 4
    assert list(solvers) == ["euler", "square"]
    assert dict(Registry("solver", {"euler": 1}, accepts=int)) == {"euler": 1, "square": 4}


def test_what_a_plugin_prints_when_it_is_imported_is_no_part_of_the_output(packages: Path, capsys):
    (packages / "shapes.py").write_text("print('hello')\nsquare = 4\n")
    installed(packages, "shapes", "solver.square = shapes:square")
    assert Registry("solver", {}, accepts=int)["square"] == 4
    assert capsys.readouterr() == ("", "hello\n")


def test_no_plugin_is_imported_for_a_name_that_is_built_in_nor_for_a_miss(packages: Path):
    installed(packages, "shapes", "solver.square = shapes:square")
    solvers = Registry("solver", {"euler": 1}, accepts=int)
    assert solvers["euler"] == 1
    assert "square" in solvers
    with pytest.raises(UnknownName, match=r"unknown solver 'squar' \(nearest: 'square'\); known: euler, square"):
        solvers["squar"]
    assert "shapes" not in sys.modules


@pytest.mark.parametrize(("kind", "name"), [("family", "Fluxx"), ("model", "DiT-XL2"), ("study", "figure")])
def test_of_many_names_the_nearest_three_are_named_and_what_lists_all(kind, name):
    entries = getattr(import_module(KINDS[kind]), {"family": "FAMILIES", "model": "MODELS", "study": "STUDIES"}[kind])
    near = r"\(nearest: '[^']+', '[^']+', '[^']+'\)"
    command = LISTED[kind]
    with pytest.raises(
        UnknownName, match=rf"^unknown {kind} '{name}' {near}; {len(entries)} are known, {command} lists them$"
    ):
        entries[name]


def test_a_registry_that_is_not_open_takes_no_plugins(packages: Path):
    installed(packages, "shapes", "solver.square = shapes:square")
    assert list(Registry("solver", {"euler": 1})) == ["euler"]


def test_a_broken_plugin_is_one_line_and_stops_nobody_who_does_not_ask_for_it(packages: Path, caplog):
    installed(packages, "shapes", "solver.broken = shapes_broken:square", "solver.square = shapes:square")
    solvers = Registry("solver", {"euler": 1}, accepts=int)
    with caplog.at_level(logging.WARNING):
        assert list(solvers) == list(solvers) == ["euler", "square"]
    assert [record.getMessage() for record in caplog.records] == [BROKEN]
    for _ in range(2):
        with pytest.raises(BrokenPlugin, match=f"^{BROKEN}$"):
            solvers["broken"]


@pytest.mark.parametrize(
    ("points", "line"),
    [
        (["solver.euler = shapes:square"], "plug-in 'solver.euler' of shapes is left out: the solver 'euler' is taken"),
        (
            ["solvr.square = shapes:square"],
            "plug-in 'solvr.square' of shapes is left out: unknown kind 'solvr' (nearest: 'solver')",
        ),
        (
            ["solver.circle = shapes:circle"],
            "plug-in 'solver.circle' of shapes cannot be used: ValueError: solver 'circle' is a str; expected a int",
        ),
    ],
)
def test_a_plugin_that_cannot_be_taken_in_is_one_line(packages: Path, points: list[str], line: str, caplog):
    installed(packages, "shapes", *points)
    with caplog.at_level(logging.WARNING):
        assert dict(Registry("solver", {"euler": 1}, accepts=int)) == {"euler": 1}
        assert dict(Registry("model", {"dit": 1}, accepts=int)) == {"dit": 1}
    assert [record.getMessage() for record in caplog.records] == [line]


def test_a_name_that_two_distributions_offer_is_nobodys(packages: Path):
    for name in ("shapes", "forms"):
        installed(packages, name, "solver.square = shapes:square")
    with pytest.raises(BrokenPlugin, match=r"of (shapes|forms) cannot be used: .* of (shapes|forms) has the same name"):
        Registry("solver", {}, accepts=int)["square"]


def opened(**entries: int) -> Registry[int]:
    return Registry("solver", entries, accepts=int)


def test_what_is_registered_is_found_and_may_be_registered_again(packages: Path):
    solvers = opened(euler=1)
    for _ in range(2):
        register("solver", "heun", 2)
    assert dict(solvers) == {"euler": 1, "heun": 2}


@pytest.mark.parametrize(
    ("kind", "name", "entry", "line"),
    [
        ("solver", "euler", 3, "solver 'euler' is taken; expected a name that is not yet known"),
        ("solver", "square", 3, "solver 'square' is taken; expected a name that is not yet known"),
        ("solver", "heun", "2", "solver 'heun' is a str; expected a int"),
        ("solver", "heun:2", 2, "solver 'heun:2'; expected a word without ':', the same as the entry's own name"),
        ("solvers", "heun", 2, r"unknown kind 'solvers' \(nearest: 'solver'\); known: scheme, .*"),
    ],
)
def test_what_cannot_be_registered_is_refused_in_one_line(packages: Path, kind: str, name: str, entry: object, line):
    installed(packages, "shapes", "solver.square = shapes:square")
    solvers = opened(euler=1)
    with pytest.raises(ValueError, match=f"^{line}$"):
        register(kind, name, entry)
    assert solvers["euler"] == 1
    assert solvers["square"] == 4


def test_work_for_another_process_takes_along_what_was_registered(packages: Path):
    solvers = opened(euler=1)
    assert with_registered(len) is len
    register("solver", "heun", 2)
    sent = pickle.dumps(with_registered(partial(divmod, 7)))
    del solvers
    there = opened(euler=1)
    assert pickle.loads(sent)(2) == (3, 1)
    assert there["heun"] == 2


def test_what_cannot_be_handed_over_is_refused_in_one_line(packages: Path, monkeypatch: pytest.MonkeyPatch):
    Registry("solver", {}, accepts=object)
    register("solver", "heun", lambda: 2)
    with pytest.raises(ValueError, match=r"^the solver 'heun' was registered here and cannot be handed to a worker"):
        with_registered(len)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_said_to_hold_the_registry_of_a_kind_holds_it(kind: str):
    module = import_module(KINDS[kind])
    assert any(isinstance(value, Registry) and value.kind == kind for value in vars(module).values())


@pytest.mark.parametrize(
    ("registry", "table"), [(SOLVERS, solvers), (STUDIES, studies), (SCALES, scales), (METRICS, metrics)]
)
def test_names_that_are_known_before_their_entries_are_those_of_the_entries(registry, table):
    assert list(registry) == list(table.TABLE)
    assert all(registry[name] is entry for name, entry in table.TABLE.items())


def test_an_entry_that_comes_later_is_imported_when_it_is_asked_for_not_when_its_name_is():
    later = Registry("colour", {"red": Later("absent_module:TABLE"), "green": 2})
    assert list(later) == ["red", "green"] and "red" in later and later["green"] == 2
    later.check("red")
    with pytest.raises(UnknownName, match=r"unknown colour 'rde' \(nearest: 'red'\); known: red, green"):
        later.check("rde")
    with pytest.raises(ModuleNotFoundError, match="absent_module"):
        later["red"]
