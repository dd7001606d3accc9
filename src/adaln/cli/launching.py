"""Where the runs of a study or a search are done: the flags that both verbs share."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from adaln.cli.devices import find_device
from adaln.studies.running.cluster import Cluster, Jobs
from adaln.studies.running.engine import Unfinished
from adaln.studies.running.launch import Launcher, Workers, places


@dataclass(frozen=True, slots=True)
class Launching:
    """Where runs are done, and how many at the same time: it changes the speed, not the numbers."""

    jobs: int | None = None
    """Runs at the same time, each held to its own cores or GPU; default: one per GPU, else one per core."""
    device: str = "auto"
    """cpu, cuda, mps, or auto: the fastest there is."""
    launcher: Literal["local", "submitit"] = "local"
    """submitit: Slurm array jobs, one for each run (pip install 'adaln[cluster]')."""
    cluster: Cluster = field(default_factory=Cluster)
    root: Path = Path("runs")
    """Folder that holds the runs and the results."""

    def __post_init__(self) -> None:
        if self.jobs is not None and self.jobs < 1:
            raise ValueError(f"jobs is {self.jobs}; expected an integer >= 1")


@contextmanager
def launched(options: Launching) -> Iterator[Launcher]:
    """The launcher that was asked for; what it started is stopped when the block is left early."""
    if options.launcher == "submitit":
        yield Jobs(options.root / "cluster", options.cluster)
    else:
        with Workers(places(find_device(options.device), options.jobs)) as workers:
            yield workers


@contextmanager
def going_on_with(command: str) -> Iterator[None]:
    """Adds to the names of runs that failed the command that does what is missing."""
    try:
        yield
    except Unfinished as error:
        raise Unfinished(f"{error}; go on with: {command}") from error
