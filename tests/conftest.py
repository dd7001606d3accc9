import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import typechecking  # noqa: F401 -- before the first module of adaln

os.environ["COLUMNS"] = "200"  # tables of the command line are not folded
os.environ["PYTHONPATH"] = os.pathsep.join(  # processes that tests start import `helpers`, too
    [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
)


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Caches of the user are neither read nor written."""
    cache = tmp_path_factory.getbasetemp().parent / "adaln-cache"  # shared by the workers of one test run
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ADALN_CACHE", str(cache))
        yield


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> None:
    """Bits depend on the number of threads."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def small_config():
    """A run of seconds: two narrow blocks on digits."""
    from adaln.config import digits
    from adaln.models import DiTConfig

    def make(**changes):
        config = replace(
            digits(),
            name="small",
            model=DiTConfig(16, 2, 2, 2),
            batch_size=8,
            steps=10,
            log_every=2,
            checkpoint_every=5,
            keep_checkpoints=0,
        )
        return replace(config, **changes)

    return make


@pytest.fixture(scope="session")
def trained_once(small_config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from adaln.runs import Run
    from adaln.training import train

    torch.set_num_threads(1)
    run = Run.create(small_config(), tmp_path_factory.mktemp("trained"))
    train(run)
    return run.path


@pytest.fixture
def trained(trained_once: Path, tmp_path: Path):
    """A finished small run, this test's own."""
    from adaln.runs import Run

    return Run.open(shutil.copytree(trained_once, tmp_path / "runs" / trained_once.name))
