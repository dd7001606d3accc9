"""Five schemes on digits, in minutes on two cores: which initialisation, and what does it do to the network?"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from adaln.conditioning import scheme
from adaln.config import digits
from adaln.processes import SamplerConfig
from adaln.sampling import SampleConfig
from adaln.studies.comparison import compare_schemes
from adaln.studies.plan import Job, Study

SCHEME_NAMES = ("adaln", "adaln-step1", "adaln-mix", "adaln-zero", "adaln-gaussian")
STEPS = 1_000
SCORE_AT = (250, 500, 1_000)
SAMPLE = SampleConfig(num_images=1_000, batch_size=250, sampler=SamplerConfig(solver="ddim", steps=20, clip=True))


def digits_jobs(schemes: Mapping[str, str], seeds: Sequence[int]) -> list[Job]:
    """A job for each label and seed, on digits; `schemes` maps labels to what `adaln.conditioning.scheme` reads.

    A seed fixes data order, times, noise and backbone, so seeds are paired. Equal schemes are equal runs, whichever
    study asks for them.
    """
    return [
        Job(
            label,
            replace(
                digits(),
                name=re.sub(r"[^\w.-]+", "-", f"digits-{scheme(spec).name}-s{seed}"),
                scheme=scheme(spec),
                seed=seed,
                steps=STEPS,
                checkpoint_every=250,
                keep_checkpoints=0,
            ),
            SCORE_AT,
            SAMPLE,
        )
        for seed in seeds
        for label, spec in schemes.items()
    ]


QUICKSTART = Study(
    name="quickstart",
    title="Five conditioning schemes on 1,797 digits",
    jobs=partial(digits_jobs, {name: name for name in SCHEME_NAMES}),
    reduce=partial(compare_schemes, "Five conditioning schemes on 1,797 digits", "adaln study quickstart"),
    seeds=3,
)
