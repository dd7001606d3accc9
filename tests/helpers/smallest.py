"""The smallest study: two narrow schemes over two seeds, the same way through as a real one."""

from contextlib import contextmanager
from dataclasses import replace

import torch

from adaln.models import DiTConfig
from adaln.processes import SamplerConfig
from adaln.progress import showing
from adaln.studies import SCALES, STUDIES, Plan, Scale, Setting, run_study
from adaln.studies.run.run_study import complete
from adaln.studies.run.workers import Workers, attempt, workers_for

SMALL = DiTConfig(16, 2, 2, 2)


def make_small(setting, seed, changes):
    """Few steps, two checkpoints, few images."""
    job = SCALES["tiny"].make(setting, seed, changes)
    few = SamplerConfig(solver="ddim", steps=2, clip=True)
    return replace(
        job,
        config=replace(job.config, model=SMALL, steps=8, batch_size=8, log_every=2, checkpoint_every=4),
        score_at=(4, 8),
        sample=replace(job.sample, num_images=40, batch_size=20, sampler=few),
        reference=changes.reference,
    )


SETTINGS = Setting("adaln-mix", "adaln-mix"), Setting("adaln-zero", "adaln-zero")
STUDY = replace(STUDIES["quickstart"], name="smallest", settings=SETTINGS, seeds=2, races=None)
PLAN = Plan(STUDY, Scale("smallest", "a few steps", make_small, 2), (0, 1))


def complete_on_cores(plan, root, num_workers):
    """All the runs of the study, without its result."""
    with Workers(workers_for(torch.device("cpu"), num_workers)) as workers:
        complete(plan.jobs(), root, workers)


def run(plan, root, num_workers):
    """The study on this machine's cores."""
    with Workers(workers_for(torch.device("cpu"), num_workers)) as workers:
        return run_study(plan, root, workers)


@contextmanager
def recorded():
    """The progress of what is done in the block: stage, done, in all, unit."""
    calls = []
    with showing(lambda *call: calls.append(call)):
        yield calls


class Here:
    """A launcher that does pieces here and counts them."""

    def __init__(self):
        self.done = []

    def run(self, pieces, watch):
        failures = {}
        for name, piece in pieces.items():
            self.done.append(name)
            if failure := attempt(piece, "cpu", lambda count: None):
                failures[name] = failure
        return failures
