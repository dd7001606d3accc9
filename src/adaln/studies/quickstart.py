"""Five schemes on digits, in minutes on two cores: which initialisation, and what does it do to the network?"""

from collections.abc import Sequence
from dataclasses import replace

from adaln.conditioning import SCHEMES
from adaln.config import digits
from adaln.processes import SamplerConfig
from adaln.sampling import SampleConfig
from adaln.studies.comparison import compare_schemes
from adaln.studies.plan import Job, Study

SCHEME_NAMES = ("adaln", "adaln-step1", "adaln-mix", "adaln-zero", "adaln-gaussian")
STEPS = 1_000
SCORE_AT = (250, 500, 1_000)
SAMPLE = SampleConfig(num_images=1_000, batch_size=250, sampler=SamplerConfig(solver="ddim", steps=20, clip=True))


def jobs(seeds: Sequence[int]) -> list[Job]:
    """Every scheme at every seed; a seed fixes data order, times, noise and backbone, so seeds are paired."""
    return [
        Job(
            replace(
                digits(),
                name=f"digits-{name}-s{seed}",
                scheme=SCHEMES[name],
                seed=seed,
                steps=STEPS,
                checkpoint_every=250,
                keep_checkpoints=0,
            ),
            SCORE_AT,
            SAMPLE,
        )
        for seed in seeds
        for name in SCHEME_NAMES
    ]


QUICKSTART = Study(
    name="quickstart",
    title="Five conditioning schemes on digits",
    jobs=jobs,
    reduce=lambda outcomes: compare_schemes(
        "Five conditioning schemes on 1,797 digits", outcomes, "adaln study quickstart"
    ),
    seeds=3,
)
