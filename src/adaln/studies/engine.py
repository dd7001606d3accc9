"""Runs a study's jobs side by side in processes of one thread each: resumable, and the same numbers whatever `--jobs`.

A job's work is a chain of finished pieces on disk (checkpoints, score files), so a study may be killed at any moment;
started again, it does only what is missing. One failed job never loses the others.
"""

import multiprocessing
import multiprocessing.synchronize
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import nn

from adaln.analysis.recorder import Recorder
from adaln.files import write_atomically
from adaln.processes import count_updates
from adaln.report import json_text, write_page
from adaln.runs import Run
from adaln.studies.plan import Job, Plan, Result, outcomes
from adaln.studies.protocol import check_is_papers
from adaln.studies.scoring import is_scored, reference, score
from adaln.training import Stopped, train

Progress = Callable[[int, int, str], None]
"""Called with (work done, work in all, what is being done); the unit is one image through the network."""
BACKWARD = 3
"""A training step costs about three forward passes."""


def run_study(plan: Plan, root: Path, num_processes: int, progress: Progress) -> tuple[Path, Result]:
    """Do what is missing, reduce, and write `result.json` and `index.html`; returns the plan's folder and the result.

    `adaln report FOLDER` writes the pictures as files as well. Raises `Stopped` when asked to stop, `ValueError`
    naming the jobs that failed (finished ones are kept).
    """
    check_is_papers(plan)
    execute(plan.jobs(), root, num_processes, progress)
    execute(plan.further_jobs(root), root, num_processes, progress)
    folder, result = plan.folder(root), reduce_study(plan, root)
    write_page(result.page, folder / "index.html")
    write_atomically(folder / "result.json", json_text(result.data) + "\n")
    write_atomically(folder / "study.json", json_text(plan.to_json()) + "\n")
    return folder, result


def reduce_study(plan: Plan, root: Path) -> Result:
    """The result of a plan whose jobs are all done."""
    return plan.study.reduce(plan.command(), outcomes([*plan.jobs(), *plan.further_jobs(root)], root))


def execute(jobs: Sequence[Job], root: Path, num_processes: int, progress: Progress) -> None:
    """Perform all jobs; blocks until they are done. Jobs of one run follow each other, shortest first."""
    runs = [sorted(found, key=lambda job: job.config.steps) for found in by_run(jobs)]
    if not runs:
        return
    for longest in (found[-1] for found in runs):
        Run.create(longest.config, root)  # what does not fit is said before hours of work
    context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    done, stop = context.Value("q", 0), context.Event()
    total = sum(work(found) for found in runs)
    pool = ProcessPoolExecutor(
        min(num_processes, len(runs)), context, initializer=_start_worker, initargs=(done, stop, os.getpid())
    )
    try:
        with _terminated_as_interrupted():
            progress(0, total, "preparing")
            references = {job.config.data: job for job in jobs if job.score_at}  # a classifier is trained once
            _watch([pool.submit(prepare, job) for job in references.values()], done, total, "references", progress)
            futures = {pool.submit(perform, found, root): found for found in runs}
            _watch(list(futures), done, total, "runs", progress)
            failed = [f"{found[0].config.name}: {f.exception()}" for f, found in futures.items() if f.exception()]
    except KeyboardInterrupt:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)
        raise Stopped("stopped; what is finished is kept") from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    if failed:
        raise ValueError(f"{len(failed)} of {len(runs)} runs failed, the others are kept: {'; '.join(failed)}")


def by_run(jobs: Sequence[Job]) -> list[list[Job]]:
    """Jobs that share a run, together: no two workers train one."""
    found: dict[tuple[str, str], list[Job]] = {}
    for job in jobs:
        found.setdefault(job.run_key, []).append(job)
    return list(found.values())


def work(jobs: Sequence[Job]) -> int:
    """Cost of the jobs of one run in images through the network."""
    longest = max(job.config.steps for job in jobs)
    training = BACKWARD * longest * jobs[0].config.batch_size
    return training + sum(len(job.score_at) * job.sample.num_images * updates_of(job) for job in jobs)


def updates_of(job: Job) -> int:
    """Passes through the network behind one sample; 0 where a solver chooses them itself."""
    return count_updates(Run(Path(), job.config).process, job.sample.sampler) or 0


def prepare(job: Job) -> None:
    """Make the feature network and the reference statistics that all jobs on this data share."""
    reference(job.config.data, job.features, job.reference)


def perform(jobs: Sequence[Job], root: Path) -> None:
    """Train to each job's steps, then sample and score the checkpoints it asks for; skips what is on disk."""
    for job in jobs:
        run = Run.create(job.config, root)
        start = min(max(run.steps_saved(), default=0), job.config.steps)
        step_cost = BACKWARD * job.config.batch_size
        _advance(start * step_cost if job is jobs[0] else 0)
        if start < job.config.steps:
            recorder = Recorder(run.path / "analysis" / "roles.jsonl")
            train(run, [recorder, lambda step, model, cost=step_cost: _advance(cost), _obey])
        for step in job.score_at:
            if is_scored(run, job.scoring, step):
                _advance(updates_of(job) * job.sample.num_images)
            else:
                score(run, job.scoring, step, _advance)


_done: "Synchronized[int]"
_stop: "multiprocessing.synchronize.Event"


def _start_worker(done: "Synchronized[int]", stop: "multiprocessing.synchronize.Event", parent: int) -> None:
    """In each worker: one thread of torch's, so that results do not depend on how many workers there are."""
    global _done, _stop
    _done, _stop = done, stop
    torch.set_num_threads(1)
    threading.Thread(target=_leave_with, args=(parent,), daemon=True).start()


def _leave_with(parent: int) -> None:
    """Go when the study's process is gone, which an idle worker would not notice; one that trains saves first."""
    while True:
        time.sleep(0.5)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGTERM)


def _advance(images: int) -> None:
    with _done.get_lock():
        _done.value += images


def _obey(step: int, model: nn.Module) -> None:
    """Hook: stop (and save) when the study is stopped."""
    if _stop.is_set():
        signal.raise_signal(signal.SIGTERM)


def _watch(
    futures: "Sequence[Future[Any]]", done: "Synchronized[int]", total: int, what: str, progress: Progress
) -> None:
    """Show progress until all are done; a failure is left in its future for the caller."""
    pending = set(futures)
    while pending:
        pending = wait(pending, timeout=0.25).not_done
        progress(min(done.value, total), total, what)


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM means what Ctrl-C means."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
