"""What a study needs: jobs, each a training run with the checkpoints at which it is sampled and scored."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from adaln.analysis.recorder import RoleRecord, observe, read_recording
from adaln.config import RunConfig, short_hash, to_dict
from adaln.metrics import Scores
from adaln.report import Page, Table
from adaln.runs import Run, load_tensors, read_records
from adaln.sampling import SampleConfig
from adaln.studies.scorefiles import Scoring, read_scores


@dataclass(frozen=True, slots=True)
class Job:
    """One run, the steps at which it is scored, and how its samples are drawn."""

    label: str
    """The row of the study's table that the run belongs to; its seeds share it."""
    config: RunConfig
    score_at: tuple[int, ...]
    sample: SampleConfig

    @property
    def scoring(self) -> Scoring:
        """How its checkpoints are scored: against its own data."""
        return Scoring(self.sample)


@dataclass(frozen=True, slots=True)
class Outcome:
    """A finished job, read from disk."""

    job: Job
    run: Run

    def losses(self) -> list[dict[str, Any]]:
        """Lines of metrics.jsonl."""
        return read_records(self.run.path / "metrics.jsonl")

    def scores(self) -> dict[int, Scores]:
        """Scores by step, in ascending order."""
        return {step: read_scores(self.run, self.job.scoring, step) for step in self.job.score_at}

    def recording(self) -> list[RoleRecord]:
        """Distributions of gate, scale and shift over the run, its end included."""
        last = self.job.config.steps
        weights = load_tensors(self.run.folder(last) / "model.safetensors")
        return [*read_recording(self.run.path / "analysis" / "roles.jsonl"), *observe(last, weights)]


@dataclass(frozen=True, slots=True)
class Result:
    """What a study found: plain data for machines, a page for people. Equal runs give equal bytes."""

    data: dict[str, Any]
    page: Page
    table: Table
    """The answer, for a terminal."""


@dataclass(frozen=True, slots=True)
class Study:
    """A question, the runs that answer it, and how they are reduced to an answer."""

    name: str
    title: str
    """The question in a few words."""
    jobs: Callable[[Sequence[int]], list[Job]]
    """Seeds -> jobs."""
    reduce: Callable[[list[Outcome]], Result]
    seeds: int = 2
    """How many seeds by default; at least 2, or nothing could be told from noise."""


def study_folder(root: Path, name: str, jobs: Sequence[Job]) -> Path:
    """Where a study's results lie: its name and a hash over everything that it computes."""
    rows = [{"config": to_dict(job.config), "score_at": job.score_at, "sample": asdict(job.sample)} for job in jobs]
    return root / "studies" / f"{name}-{short_hash({'jobs': rows})}"
