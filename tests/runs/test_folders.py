"""One data set is one run, however its path is spelled and wherever one stands."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from adaln.codec import canonical_json
from adaln.config import to_dict
from adaln.data import DataConfig, canonical_path
from adaln.runs import Run
from adaln.runs.folders import config_hash
from adaln.training import train
from helpers.pictures import pixels, png, two_classes, write_folder

SPELLINGS = ("set", "set/", "./set", "a/../set", ".//set/.", "ABSOLUTE", "link", "./link/", "a/back/set", "~/set")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working folder with a data set, which is the home folder too."""
    here = tmp_path / "here"
    write_folder(here / "set", two_classes(2, height=8, width=8))
    (here / "a").mkdir()
    (here / "link").symlink_to("set")
    (here / "a/back").symlink_to("..")
    monkeypatch.chdir(here)
    monkeypatch.setenv("HOME", str(here))
    return here


@pytest.fixture
def on(small_config):
    """The config of a run on the data at a path."""
    return lambda path, **changes: small_config(data=DataConfig(path), steps=2, **changes)


def as_older_builds_wrote(config, root):
    """Their runs keep the path as it was spelled, in the config and in the hash; no manifest says where it led."""
    folder = root / f"{config.name}-{config_hash(config)}"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(canonical_json(to_dict(config)))
    return folder


def spelled(path, here):
    return path.replace("ABSOLUTE", str(here / "set"))


def test_every_spelling_of_a_path_is_the_same_run(here, on):
    runs = [Run.create(on(spelled(path, here)), Path(root)) for root in "xy" for path in SPELLINGS]
    assert {run.path.name for run in runs} == {f"small-{config_hash(on('set'))}"}
    assert {run.config.data.path for run in runs} == {"set"}
    assert len({run.dataset.fingerprint for run in runs}) == 1


def test_data_outside_of_the_working_folder_has_its_absolute_path(here, on, monkeypatch):
    monkeypatch.chdir(here / "a")
    (here / "a/elsewhere").symlink_to(here / "set")
    paths = ("../set", str(here / "set"), "../link", "elsewhere", "~/set", "back/set")
    assert {Run.create(on(path), Path("runs")).config.data.path for path in paths} == {str(here / "set")}


@pytest.mark.slow
@pytest.mark.parametrize("first", SPELLINGS)
def test_a_run_of_an_older_build_is_found_by_its_own_spelling_and_by_all_others(here, on, first):
    folder = as_older_builds_wrote(on(spelled(first, here)), Path("runs"))
    before = (folder / "config.json").read_bytes()
    for path in SPELLINGS:
        run = Run.create(on(spelled(path, here)), Path("runs"))
        assert (run.path, (folder / "config.json").read_bytes()) == (folder, before)
    assert [each.name for each in Path("runs").iterdir()] == [folder.name]
    longer = Run.create(replace(on("set"), steps=3), Path("runs"))
    assert longer.path == folder and Run.open(folder).config == replace(on(spelled(first, here)), steps=3)


def test_of_two_runs_of_an_older_build_each_is_found_by_its_own_spelling(here, on):
    folders = {path: as_older_builds_wrote(on(path), Path("runs")) for path in ("./set", "set", "set/")}
    assert {path: Run.create(on(path), Path("runs")).path for path in folders} == folders


def test_runs_that_differ_in_more_than_a_spelling_stay_apart(here, on):
    write_folder(here / "other", two_classes(3, height=8, width=8))
    as_older_builds_wrote(on("./set", seed=1), Path("runs"))
    as_older_builds_wrote(on("./other"), Path("runs"))
    (here / "runs" / "small-torn").mkdir()
    (here / "runs/small-torn/config.json").write_text('{"scheme": ')
    assert Run.create(on("set"), Path("runs")).path == Path("runs") / f"small-{config_hash(on('set'))}"


@pytest.mark.parametrize("path", ["digits", "hf:uoft-cs/cifar10", "hf:a/../b", "nowhere/", "./nowhere"])
def test_what_is_no_place_keeps_its_name(here, path):
    assert canonical_path(path) == path


def test_a_folder_that_bears_the_name_of_embedded_data_is_not_taken_for_it(here, on):
    write_folder(here / "digits", two_classes(2, height=8, width=8))
    assert canonical_path("digits") == "digits" and canonical_path("./digits") == str(here / "digits")
    folder, embedded = (Run.create(on(path), Path("runs")) for path in ("./digits", "digits"))
    assert folder.path != embedded.path
    assert (len(folder.dataset), len(embedded.dataset)) == (4, 1797)


def test_an_attribute_stays_with_its_path(here):
    (here / "a#b").mkdir()
    paths = ("./set#Smiling", f"{here}/link#Smiling", "a/../a#b", "./a#b#Smiling")
    assert [canonical_path(path) for path in paths] == ["set#Smiling", "set#Smiling", "a#b", "a#b#Smiling"]


def test_a_run_finds_its_data_from_every_folder_and_never_takes_that_of_another(here, on, tmp_path, monkeypatch):
    trained = Run.create(on("set"), here / "runs")
    train(trained)
    assert json.loads((trained.path / "manifest.json").read_text())["data"]["path"] == str(here / "set")
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "there")
    run = Run.open(trained.path)
    assert run.data.path == str(here / "set") and run.dataset.fingerprint == trained.dataset.fingerprint
    for path in ("set", "../here/set", str(here / "set")):  # from here, nothing lies at the first
        on_again = Run.create(on(path), out=trained.path)
        assert on_again.dataset.fingerprint == trained.dataset.fingerprint
    other = {name: png(pixels(100, 8, 8)) for name in two_classes(2)}
    write_folder(tmp_path / "there/set", other)
    assert Run.open(trained.path).dataset.fingerprint == trained.dataset.fingerprint
    with pytest.raises(ValueError, match=f"'set' \\({tmp_path}/there/set\\) now is .* other images or labels"):
        _ = Run.create(on("set"), out=trained.path).dataset
    with pytest.raises(ValueError, match=r"another config: data.path: set -> digits"):
        Run.create(on("digits"), out=trained.path)


def test_data_that_moved_is_found_beside_the_run_and_where_it_is_gone_the_line_says_relative_to_what(
    here, on, tmp_path, monkeypatch
):
    train(Run.create(on("set"), Path("runs"), Path("runs/r")))
    here.rename(tmp_path / "moved")
    monkeypatch.chdir(tmp_path / "moved")
    assert len(Run.open("runs/r").dataset) == 4
    Path("set").rename("gone")
    for ask in (lambda: Run.open("runs/r").dataset, lambda: Run.create(on("set"), out=Path("runs/r")).dataset):
        with pytest.raises(
            ValueError, match=f"no data at '{here}/set', where .*, nor at 'set' relative to {Path.cwd()}"
        ):
            ask()
    longer = replace(on("gone"), steps=3)
    with pytest.raises(ValueError, match=r"another config: data.path: set -> gone"):
        Run.create(longer, out=Path("runs/r"))
