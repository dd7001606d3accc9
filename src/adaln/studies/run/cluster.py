"""Tasks as Slurm array jobs, through submitit.

submitit hands a task to its job as a pickle of its own making, in its own folder. Nothing of it is read here: how a
task ended is a line of JSON that its job leaves, how far it is can be seen in the folder of its run.
"""

import json
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import torch

from adaln.codec import encode
from adaln.files import reading, write_atomically
from adaln.studies.choices import Cluster
from adaln.studies.run.workers import Failure, Task, attempt, terminated_as_interrupted
from adaln.training import Stopped

if TYPE_CHECKING:
    from submitit import AutoExecutor, Job
    from submitit.helpers import DelayedSubmission

POLL_SECONDS = {"slurm": 5.0, "local": 0.5}
MOST_TIMEOUTS = 1_000
"""How often a job that runs into its time limit is queued again: it goes on where it was, so as often as it takes."""


class Jobs:
    """A launcher of jobs; their papers lie in `folder`. Jobs that outlive it are found again, not queued twice."""

    def __init__(self, folder: Path, cluster: Cluster) -> None:
        self._folder = folder
        self._cluster = cluster
        self._executor = _executor(folder, cluster)
        self._queued_file = folder / "queued.json"

    def run(self, tasks: Mapping[str, Task], watch: Callable[[float | None], None]) -> dict[str, Failure]:
        """See `Launcher`; interrupted, it leaves the jobs to Slurm and raises `Stopped`."""
        jobs = self._queued_before(tasks)
        new = {name: task for name, task in tasks.items() if name not in jobs}
        jobs |= self._submit(new) if new else {}
        rows = self._queued() | {name: job.job_id for name, job in jobs.items()}
        write_atomically(self._queued_file, json.dumps(rows, indent=1) + "\n")
        pending = dict(jobs)
        try:
            while pending:
                time.sleep(POLL_SECONDS[self._cluster.executor])
                pending = {name: job for name, job in pending.items() if not job.done()}
                watch(None)
        except KeyboardInterrupt:
            raise Stopped(self._left(pending)) from None
        ended = {name: self._outcome(name, job) for name, job in jobs.items()}
        return {name: failure for name in tasks if (failure := ended[name])}

    def _queued_before(self, names: Mapping[str, Any]) -> "dict[str, Job[None]]":
        """Jobs of an earlier start that Slurm still has."""
        if self._cluster.executor != "slurm":
            return {}
        from submitit import SlurmJob

        jobs = {name: SlurmJob[None](self._folder, job_id) for name, job_id in self._queued().items() if name in names}
        return {name: job for name, job in jobs.items() if not job.done(force_check=True)}

    def _queued(self) -> dict[str, str]:
        """Ids of the jobs by the names of their tasks."""
        file = self._queued_file
        with reading(file, "a record of jobs"):
            rows: dict[str, str] = dict(json.loads(file.read_text(encoding="utf-8"))) if file.exists() else {}
            return rows

    def _submit(self, tasks: Mapping[str, Task]) -> "dict[str, Job[None]]":
        from submitit.core.utils import FailedJobError

        files = {name: self._outcome_file(name) for name in tasks}
        for file in files.values():
            file.unlink(missing_ok=True)
        job_tasks = {name: _JobTask(task, self._cluster.device, files[name]) for name, task in tasks.items()}
        try:
            with self._executor.batch():
                return {name: self._executor.submit(task) for name, task in job_tasks.items()}
        except FailedJobError as error:
            raise ValueError(f"Slurm did not take the jobs: {error}") from None

    def _outcome_file(self, name: str) -> Path:
        return self._folder / f"{name}.outcome.json"

    def _outcome(self, name: str, job: "Job[None]") -> Failure | None:
        if not (file := self._outcome_file(name)).exists():
            return Failure("Killed", f"job {job.job_id} ended without a word; its log: {job.paths.stderr}")
        with reading(file, "the outcome of a job"):
            row = json.loads(file.read_text(encoding="utf-8"))
            return Failure(**row) if row else None

    def _left(self, pending: "dict[str, Job[None]]") -> str:
        ids = " ".join(sorted({job.job_id.partition("_")[0] for job in pending.values()}))
        if self._cluster.executor == "slurm":
            return f"stopped watching; {len(pending)} jobs are left to Slurm (scancel {ids} ends them)"
        for job in pending.values():
            job.cancel()
        return "stopped; what is finished is kept"


def _executor(folder: Path, cluster: Cluster) -> "AutoExecutor":
    """submitit's executor with this cluster's parameters; `ValueError` where submitit or Slurm is missing."""
    try:
        from submitit import AutoExecutor

        executor = AutoExecutor(folder, cluster.executor, slurm_max_num_timeout=MOST_TIMEOUTS)
    except ImportError:
        raise ValueError("--launcher submitit needs submitit: pip install 'adaln[cluster]'") from None
    except RuntimeError as error:
        raise ValueError(f"no Slurm here ({error}); expected a login node, or --cluster.executor local") from None
    asked = {
        "name": "adaln",
        "timeout_min": cluster.time_minutes,
        "gpus_per_node": cluster.gpus_per_node,
        "cpus_per_task": cluster.cpus_per_task,
        "mem_gb": cluster.mem_gb,
        **{f"slurm_{name}": getattr(cluster, name) for name in ("partition", "account", "qos", "constraint")},
        "slurm_array_parallelism": cluster.array_parallelism,
    }
    executor.update_parameters(**{name: value for name, value in asked.items() if value is not None})
    return executor


@dataclass(frozen=True, slots=True)
class _JobTask:
    """A task as a job does it: it leaves word of how it ended; asked to make room, it saves and is queued again."""

    task: Task
    device: str
    outcome_file: Path

    def __call__(self) -> None:
        torch.set_num_threads(1)
        queue_again, asked = signal.getsignal(signal.SIGUSR2), []

        def make_room(number: int, frame: FrameType | None) -> None:
            asked.append(number)
            signal.raise_signal(signal.SIGTERM)

        signal.signal(signal.SIGUSR2, make_room)
        try:
            with terminated_as_interrupted():
                failure = attempt(self.task, self.device, lambda count: None)
        except KeyboardInterrupt:
            if asked and callable(queue_again):
                queue_again(asked[0], None)
            raise
        finally:
            signal.signal(signal.SIGUSR2, queue_again)
        write_atomically(self.outcome_file, json.dumps(encode(failure)) + "\n")

    def checkpoint(self) -> "DelayedSubmission":
        """What submitit queues again: the same, since all that is done lies in the run's folder."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)
