"""A study by its name, from its runs to its page: what `adaln.study` is."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adaln.parallel import find_device
from adaln.report import Shown, Table
from adaln.studies.questions import STUDIES
from adaln.studies.run.run_study import run_study
from adaln.studies.run.workers import Launcher, Workers, workers_for
from adaln.studies.scales import SCALES
from adaln.studies.study import Overrides, Plan, Result, Study


@dataclass(frozen=True, slots=True, eq=False)
class FinishedStudy(Shown):
    """A study that is done: printed, or the last line of a notebook's cell, it shows its table and its verdict."""

    folder: Path
    """`index.html` is its page, `result.json` holds all of its numbers."""
    result: Result

    def blocks(self) -> list[str | Table]:
        return [self.result.table, *self.result.verdict]


def study(
    name: str | Study,
    scale: str = "tiny",
    seeds: int | None = None,
    *,
    root: Path | str = "runs",
    jobs: int | None = None,
    device: str = "auto",
    launcher: Launcher | None = None,
    **overrides: Any,
) -> FinishedStudy:
    """All the runs of a study that are missing, their comparison, and its page; `adaln study list` names the studies.

    `seeds` per row (default: the scale's own); `jobs` runs at the same time in processes of their own, each held to its
    cores or its GPU, or wherever a `launcher` takes them. `overrides` are `data`, `reference`, `steps` and
    `num_images`. Finished runs are kept in `root`: after a kill the same call goes on. A script calls it under
    `if __name__ == "__main__":`.

    Raises `ValueError` for an unknown name, for fewer than two seeds, and as `Unfinished`, naming the runs that failed.
    """
    size = SCALES[scale]
    count = size.seeds if seeds is None else seeds
    if count < 2:
        raise ValueError(f"seeds is {count}; expected at least 2 seeds")
    plan = Plan(STUDIES[name] if isinstance(name, str) else name, size, tuple(range(count)), Overrides(**overrides))
    if launcher is not None:
        return FinishedStudy(*run_study(plan, Path(root), launcher))
    with Workers(workers_for(find_device(device), jobs)) as workers:
        return FinishedStudy(*run_study(plan, Path(root), workers))
