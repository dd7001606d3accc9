"""The smallest study: two narrow schemes over two seeds, the same way through as a real one."""

from dataclasses import replace

from adaln.models import DiTConfig
from adaln.processes import SamplerConfig
from adaln.studies import SCALES, STUDIES, Plan, Scale, Setting

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
STUDY = replace(STUDIES["quickstart"], name="smallest", settings=SETTINGS)
PLAN = Plan(STUDY, Scale("smallest", "a few steps", make_small, 2), (0, 1))
