import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.commands import Commands
from helpers.smallest_commands import STUDY, TRAIN


@pytest.fixture(scope="session")
def adaln(tmp_path_factory: pytest.TempPathFactory):
    """The command line: `adaln("train", "digits", ...)` tells how it ended."""
    commands = Commands(tmp_path_factory.mktemp("printed"), tmp_path_factory.getbasetemp().parent / "adaln-cache")
    yield commands
    commands.close()


@pytest.fixture(scope="session")
def clean(adaln, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing happened to; not to be changed."""
    run = tmp_path_factory.mktemp("clean") / "run"
    adaln(*TRAIN, run).done()
    return run


@pytest.fixture(scope="session")
def clean_study(adaln, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of a study that nothing happened to; not to be changed.

    It was done at `root`: scores know the path of their samples, so others are held against it at the same place.
    """
    root = tmp_path_factory.mktemp("study") / "root"
    adaln(*STUDY, root).done()
    return root.rename(root.with_name("whole"))


@pytest.fixture
def root(clean_study: Path) -> Iterator[Path]:
    """Where it was done, empty."""
    place = clean_study.with_name("root")
    place.mkdir()
    yield place
    shutil.rmtree(place)


@pytest.fixture
def run(clean: Path, tmp_path: Path) -> Path:
    """A copy of it, for something to happen to."""
    return shutil.copytree(clean, tmp_path / "run")
