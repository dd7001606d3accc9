import shutil
from pathlib import Path

import pytest

from faults.commands import Commands
from faults.small import TRAIN


@pytest.fixture(scope="session")
def adaln(tmp_path_factory: pytest.TempPathFactory):
    """The command line: `adaln("train", "digits", ...)` tells how it ended."""
    commands = Commands(tmp_path_factory.mktemp("printed"))
    yield commands
    commands.close()


@pytest.fixture(scope="session")
def clean(adaln, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing happened to; not to be changed."""
    run = tmp_path_factory.mktemp("clean") / "run"
    adaln(*TRAIN, run).done()
    return run


@pytest.fixture
def run(clean: Path, tmp_path: Path) -> Path:
    """A copy of it, for something to happen to."""
    return shutil.copytree(clean, tmp_path / "run")
