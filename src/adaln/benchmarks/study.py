"""Processor seconds of a study's runs by part: what a seed costs, and where it goes.

A run is measured from nothing, with one thread as in a study, by the functions that a study calls. Whatever was
measured lies in the folder when it is killed, and is not measured again.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import nn

from adaln.analysis.recorder import Recorder
from adaln.benchmarks.machine import machine
from adaln.benchmarks.options import StudyBenchOptions
from adaln.evaluation.checkpoints import reference, samples_file, scores_file, write_score_file
from adaln.evaluation.held_out import take_losses
from adaln.execution import num_threads
from adaln.files import write_atomically
from adaln.metrics import statistics
from adaln.metrics.scores import compare
from adaln.progress import progress
from adaln.report import write_page
from adaln.runs import Run
from adaln.sampling import load_sampler, save_samples
from adaln.studies import SCALES, STUDIES, Job, Overrides, Plan, reduce_study
from adaln.studies.study import by_run
from adaln.training import train

START = "import adaln.studies.run.run_study"
"""What every worker of a study imports before its first run."""
PARTS = ("train", "record", "sample", "features", "scores", "losses", "rest")
"""rest: runs made and networks read, checkpoints written while nothing else is timed, the first run's one-time work."""


@dataclass(slots=True)
class Parts:
    """Processor seconds of all threads of this process, by the innermost part that was named."""

    seconds: dict[str, float]
    _open: list[str] = field(default_factory=list)
    _since: float = 0.0

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Time in this block is that part's, and no longer that of the part around it."""
        self._switch()
        self._open.append(name)
        yield
        self._switch()
        self._open.pop()

    def _switch(self) -> None:
        now = time.process_time()
        if self._open:
            self.seconds[self._open[-1]] += now - self._since
        self._since = now


def study_parts(options: StudyBenchOptions) -> dict[str, Any]:
    """Medians over the runs of processor seconds by part, and what the study costs once."""
    overrides = Overrides(steps=options.steps, num_images=options.num_images, held_out=options.held_out)
    plan = Plan(STUDIES[options.study], SCALES[options.scale], (0,), overrides)
    runs, folder = by_run(plan.jobs()), plan.folder(options.folder)
    with num_threads(1):
        row = {"machine": machine(torch.device("cpu")), "options": asdict(options) | {"folder": str(options.folder)}}
        measured = []
        for number, (name, jobs) in enumerate(runs.items()):
            progress("measure runs", number, len(runs), "runs")
            measured.append(kept(folder / f"{name}.json", partial(run_parts, jobs, options.folder)))
        once = kept(folder / "once.json", partial(study_once, plan, options.folder))
    first = next(iter(runs.values()))
    num_scores, steps = sum(len(job.score_at) for job in first), max(job.config.steps for job in first)
    by_part = {name: median(run[name] for run in measured) for name in measured[0]}
    whole = sum(by_part.values())
    scoring = sum(by_part[name] for name in ("sample", "features", "scores"))
    return row | {
        "runs": len(runs),
        "steps": steps,
        "scores": num_scores,
        "processor_seconds_per_run": {**by_part, "whole": whole},
        "share": {name: seconds / whole for name, seconds in by_part.items()},
        "processor_milliseconds_per_step": 1e3 * by_part["train"] / steps,
        "processor_seconds_per_score": scoring / max(num_scores, 1),
        "processor_seconds_per_study": once,
    }


def kept(file: Path, measure: Callable[[], dict[str, float]]) -> dict[str, float]:
    """What a file holds of a measurement, else the measurement, kept in it."""
    if not file.exists():
        write_atomically(file, json.dumps(measure(), indent=1) + "\n")
    row: dict[str, float] = json.loads(file.read_text(encoding="utf-8"))
    return row


def run_parts(jobs: Sequence[Job], root: Path) -> dict[str, float]:
    """Train, record, sample and score the jobs of one run from nothing."""
    parts, path = Parts(dict.fromkeys(PARTS, 0.0)), jobs[0].run_in(root).path
    shutil.rmtree(path, ignore_errors=True)
    recorder = Recorder(path / "analysis" / "roles.jsonl")

    def record(step: int, model: nn.Module) -> None:
        with parts.part("record"):
            recorder(step, model)

    with parts.part("rest"):
        for job in jobs:
            run = Run.create(job.config, root)
            with parts.part("train"):
                train(run, [record])
            for step in job.score_at:
                score_parts(job, run, step, parts)
            for step in job.loss_steps:
                with parts.part("losses"):
                    take_losses(run, step)
    return parts.seconds


def score_parts(job: Job, run: Run, step: int, parts: Parts) -> None:
    """What `adaln.evaluation.checkpoints.score` does."""
    extractor, theirs = reference(job.config.data, job.features, job.reference)
    sampler, file = load_sampler(run, job.sample, step), samples_file(run, job.scoring, step)
    with parts.part("sample"):
        save_samples(sampler, file)
    with parts.part("features"):
        ours = statistics(file, extractor)
    with parts.part("scores"):
        scores = compare(ours, theirs, choices=sampler.provenance)
    write_score_file(scores_file(run, job.scoring, step), scores)


def study_once(plan: Plan, root: Path) -> dict[str, float]:
    """The start of a process, and the page; the feature network lies in the cache by now."""
    before, parts = os.times(), Parts({"page": 0.0})
    subprocess.run([sys.executable, "-c", START], check=True)
    after = os.times()
    with parts.part("page"):
        write_page(plan.page(reduce_study(plan, root)), plan.folder(root) / "index.html")
    start = after.children_user + after.children_system - before.children_user - before.children_system
    return {"start of a process": start, **parts.seconds}
