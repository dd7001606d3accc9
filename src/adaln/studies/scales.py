"""The sizes at which the paper is repeated: two CPU cores, one GPU, or the published protocol itself.

Each scale stands in for the paper's models, data sets and step counts with its own; ratios between rows are kept where
the machine allows it. Source of `paper`: section 4 of the paper, which trained with fast-DiT in mixed precision: here
bfloat16, at `small` as well. Of that scale `adaln.studies.protocol` accepts the published protocol and nothing else.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from adaln.conditioning import Scheme, scheme, times
from adaln.config import PRESETS, OptimConfig, RunConfig, digits, images_32
from adaln.data import DataConfig
from adaln.models import MODELS, DiTConfig, ModelConfig
from adaln.processes import PROCESSES, Guidance, SamplerConfig
from adaln.sampling import SampleConfig
from adaln.specs import DataSpec
from adaln.studies.choices import Overrides
from adaln.studies.study import Job, Scale, Setting

Sizes = Mapping[str, tuple[int, int, int]]
"""Width, depth and heads that stand in for a size of the paper."""
PAPER_KEPT = (160, 10_000, 50_000, 100_000, 200_000, 400_000, 800_000)
"""The paper's own timestamps, and two between them."""
PAPER_SCORED = (50_000, 100_000, 200_000, 400_000, 800_000)
REFERENCES = {"imagenet-256": "VIRTUAL_imagenet256_labeled.npz", "imagenet-512": "VIRTUAL_imagenet512.npz"}
"""ADM's reference batches under their published names; `adaln stats` makes those of other sets."""


@dataclass(frozen=True, slots=True, eq=False)
class StandIns:
    """What stands in for the paper's networks, data sets and steps where they are out of reach."""

    base: RunConfig
    sizes: Sizes
    udit: str
    data: Mapping[str, DataConfig]
    steps: Mapping[int, int]
    """The paper's and theirs; a number of steps that is not among them is taken as it is."""
    every: int
    """Scored are the end, and about a quarter and half of the way, in whole numbers of so many steps."""
    kept: tuple[int, ...]
    """Steps whose checkpoints are kept: those at which others of `steps` end, and some between."""
    heun_steps: int
    """Of SiT; of DiT's DDIM twice as many."""
    num_images: int
    std_factor: float = 1.0
    """Standard deviations over the paper's."""

    def __call__(self, setting: Setting, seed: int, overrides: Overrides) -> Job:
        """What the setting trains here."""
        steps = overrides.steps or self.steps.get(setting.steps, setting.steps)
        model = stand_in(setting, self.sizes, self.udit)
        chosen = setting.scheme if isinstance(setting.scheme, Scheme) else scheme(setting.scheme)
        setting = replace(setting, scheme=times(chosen, self.std_factor))
        config = replace(configured(self.base, setting, seed, model, self.data[setting.data]), steps=steps)
        solver = SamplerConfig(solver="heun", steps=self.heun_steps)
        if not is_flow(setting):
            solver = SamplerConfig("ddim", 2 * self.heun_steps, clip=True)
        sample = SampleConfig(self.num_images, batch_size=500, sampler=solver, guidance=guidance(setting, "all"))
        job = Job(setting.label, config, quarters(steps, self.every), sample, group=setting.group)
        return kept(changed(job, setting, overrides), self.kept)


_DIGITS = {
    "imagenet-256": DataConfig(),
    "imagenet-512": DataConfig(size=16),
    "tiny-imagenet": DataConfig(size=16),
    "afhq": DataConfig(flip=True),
    "celeba-hq": DataConfig(conditional=False),
}
TINY = StandIns(
    # All checkpoints are kept.
    replace(digits(), log_every=5, checkpoint_every=250, keep_checkpoints=0),
    {"XL": (64, 4, 4), "L": (48, 4, 4), "B": (32, 3, 4)},
    "U-DiT-tiny",
    _DIGITS,
    # Adam moves a weight by at most the learning rate per step: 250 steps at the digits' 4e-3 go as far as the paper's
    # 10K at 1e-4. As far as its first 160 would be 4; 20 show something.
    {160: 20, 10_000: 250, 25_000: 500, 50_000: 1_000, 200_000: 1_500, 400_000: 2_000, 800_000: 4_000},
    every=250,
    kept=(20, *range(250, 4_001, 250)),
    heun_steps=10,
    num_images=1_000,
)
"""Digits on two CPU cores: a run takes half a minute."""
RATIO_LR, PAPER_LR = 4e-4, 1e-4
RATIO = replace(
    TINY,
    base=replace(
        TINY.base,
        optim=OptimConfig(lr=RATIO_LR, ema_decay=0.998),
        log_every=10,
        checkpoint_every=1_500,
        keep_checkpoints=1,
    ),
    steps={10_000: 1_500, 25_000: 3_000, 50_000: 6_000, 200_000: 9_000, 400_000: 12_000, 800_000: 24_000},
    every=1_500,
    kept=(160, 1_500, 3_000, 4_500, 6_000, 9_000, 12_000, 24_000),
    std_factor=RATIO_LR / PAPER_LR,
)
"""The same at a tenth of its learning rate.

Under Adam a start of std s lasts about s / lr updates: that is the paper's here, where every std is as many times the
paper's as the learning rate is (Xavier's and torch's at a width of 64 are by themselves: a network 18 times narrower
starts 4.2 times as wide). A run takes a minute or two.
"""
SMALL = StandIns(
    replace(images_32(), precision="bfloat16", log_every=20),
    {"XL": (384, 12, 6), "L": (320, 10, 5), "B": (256, 8, 4)},
    "U-DiT-S",
    {
        "imagenet-256": DataConfig("images", 32, flip=True),
        "imagenet-512": DataConfig("images", 64, flip=True),
        "tiny-imagenet": DataConfig("images", 64, flip=True),
        "afhq": DataConfig("images", 32),
        "celeba-hq": DataConfig("images", 32, flip=True, conditional=False),
    },
    {10_000: 1_000, 25_000: 2_500, 50_000: 5_000, 200_000: 10_000, 400_000: 20_000, 800_000: 40_000},
    every=1_250,
    kept=(160, 1_000, 1_250, 2_500, 5_000, 10_000, 20_000, 40_000),
    heun_steps=25,
    num_images=5_000,
)
"""32-pixel colour images on one GPU: an hour or so for a table."""


IMAGES_LR = 1e-3
IMAGES_32 = replace(
    SMALL,
    base=replace(
        images_32(),
        optim=OptimConfig(lr=IMAGES_LR, ema_decay=0.995),
        batch_size=32,
        log_every=20,
        checkpoint_every=250,
        keep_checkpoints=1,
    ),
    sizes={"XL": (128, 4, 4), "L": (96, 4, 4), "B": (64, 4, 4)},
    udit="U-DiT-tiny",
    steps={10_000: 500, 25_000: 1_000, 50_000: 2_000, 200_000: 3_000, 400_000: 4_000, 800_000: 8_000},
    every=500,
    kept=(160, 500, 1_000, 1_500, 2_000, 3_000, 4_000, 8_000),
    heun_steps=10,
    num_images=1_000,
    std_factor=IMAGES_LR / PAPER_LR,
)
"""The same pictures on two CPU cores, in as many tokens as the paper's latents of 256 pixels, every std as many
learning rates wide as there. A run of 2,000 steps takes 35 minutes of a core: nine runs, three hours of two."""


def paper(setting: Setting, seed: int, overrides: Overrides) -> Job:
    """The published protocol: the paper's own model, latents, steps, samples and reference."""
    base = replace(PRESETS[setting.data](), precision="bfloat16")
    steps = overrides.steps or setting.steps
    model = widened(MODELS[setting.model], setting.width_factor)
    config = replace(configured(base, setting, seed, model, base.data), steps=steps, log_every=20)
    scored = (*(step for step in PAPER_SCORED if step < steps), steps)
    sampler = SamplerConfig("sde-euler" if is_flow(setting) else "ddpm", 250)
    sample = SampleConfig(50_000, labels="random", sampler=sampler, guidance=guidance(setting, "3"))
    reference = REFERENCES.get(setting.data, f"{setting.data}-reference.npz")
    job = Job(setting.label, config, scored, sample, "inception", reference, setting.group)
    return kept(changed(job, setting, overrides), PAPER_KEPT)


TABLE: Mapping[str, Scale] = {
    "tiny": Scale("tiny", "two CPU cores, minutes per table: digits", TINY, seeds=3),
    "ratio": Scale(
        "ratio",
        f"two CPU cores, hours per table: digits at lr {RATIO_LR:g}, every std {RATIO.std_factor:g} times the paper's,"
        " which is as many learning rates as there",
        RATIO,
        seeds=8,
    ),
    "images-32": Scale(
        "images-32",
        f"two CPU cores, hours per table: 32-pixel images in 256 tokens, lr {IMAGES_LR:g}, every std"
        f" {IMAGES_32.std_factor:g} times the paper's, which is as many learning rates as there",
        IMAGES_32,
        seeds=3,
    ),
    "small": Scale("small", "one GPU, an hour or so per table: 32-pixel images, DiT-S/2", SMALL, seeds=3),
    "paper": Scale("paper", "the published protocol: XL/2 on latents, 50,000 samples, ADM's reference", paper, 3),
}


def configured(base: RunConfig, setting: Setting, seed: int, model: ModelConfig, data: DataConfig) -> RunConfig:
    """A scale's run with the setting's network and its options, process, scheme and data."""
    chosen = setting.scheme if isinstance(setting.scheme, Scheme) else scheme(setting.scheme)
    return replace(
        base,
        name=run_name(base, chosen, seed),
        model=as_large_as(model, setting.options) if setting.as_large else replace(model, **setting.options),
        scheme=chosen,
        process=PROCESSES["linear-velocity" if is_flow(setting) else "ddpm"],
        data=data,
        optim=replace(base.optim, lr=base.optim.lr * setting.lr_factor, muon=setting.muon),
        precision=setting.precision or base.precision,
        param_dtype=setting.param_dtype,
        batch_size=round(base.batch_size * setting.batch_factor),
        seed=seed,
    )


def run_name(base: RunConfig, scheme: Scheme, seed: int) -> str:
    """The name of a run that differs from `base` in scheme and seed, fit for a folder."""
    return re.sub(r"[^\w.-]+", "-", f"{base.name}-{scheme.name}-s{seed}")


def stand_in(setting: Setting, sizes: Sizes, udit: str) -> ModelConfig:
    """The scale's network for one of the paper's: same family, same patch, its own width and depth."""
    model = MODELS[setting.model]
    if not model.is_isotropic:
        return widened(MODELS[udit], setting.width_factor)
    family_size, _, _ = setting.model.partition("/")
    width, depth, heads = sizes[family_size.rpartition("-")[2]]
    smaller = model.resized(hidden_size=width, depth=None if setting.keeps_depth else depth, num_heads=heads)
    return widened(smaller, setting.width_factor)


def widened(model: ModelConfig, factor: float) -> ModelConfig:
    """The network at another width, with as many heads."""
    return model.resized(hidden_size=round(model.hidden_size * factor))


def as_large_as(model: ModelConfig, options: Mapping[str, Any]) -> ModelConfig:
    """The network with these options, and with MLPs so wide that its parameters are all but as many as without.

    How many it lacks does not depend on the data, as long as that has classes. `ValueError` for one whose MLPs have no
    ratio to its width.
    """
    changed, spec = replace(model, **options), DataSpec(channels=4, height=32, width=32, num_classes=1_000)
    if not isinstance(changed, DiTConfig):
        raise ValueError(f"{model.describe()} has MLPs of a width of their own; expected a DiT or SiT")
    missing = model.counts(spec).parameters - changed.counts(spec).parameters
    more = missing / (changed.depth * (2 * changed.hidden_size + 1))
    return replace(changed, mlp_ratio=(changed.mlp_width + round(more)) / changed.hidden_size)


def is_flow(setting: Setting) -> bool:
    """Whether the setting's network is trained as SiT is."""
    return setting.model.startswith("SiT")


def guidance(setting: Setting, channels: Literal["3", "all"]) -> Guidance:
    """Classifier-free guidance of the setting: pixels guide all their channels, the paper's latents the first three."""
    return Guidance() if setting.guidance == 1 else Guidance(setting.guidance, channels)


def quarters(steps: int, every: int) -> tuple[int, ...]:
    """A quarter, half and all of the steps, in whole numbers of `every`; of fewer than four times that, the end.

    >>> quarters(2_000, 250), quarters(1_500, 250), quarters(20, 250)
    ((500, 1000, 2000), (500, 750, 1500), (20,))
    """
    if steps < 4 * every:
        return (steps,)
    return (*(-(-steps // (part * every)) * every for part in (4, 2)), steps)


def kept(job: Job, steps: Sequence[int]) -> Job:
    """The job with checkpoints at the scale's `steps`, which all its runs keep, and wherever it is scored or ends.

    Jobs that end at one of `steps` share a run with all longer ones; a job that asks for other steps has its own.
    """
    asked = {job.config.steps, *job.score_at}
    return replace(job, config=replace(job.config, keep_at=tuple(sorted({*steps, *asked}))))


def changed(job: Job, setting: Setting, overrides: Overrides) -> Job:
    """The job with what was asked to be otherwise; nothing is scored where the setting has no scores."""
    data = replace(job.config.data, path=overrides.data) if overrides.data else job.config.data
    data = replace(data, held_out=overrides.held_out) if overrides.held_out else data
    num_images = overrides.num_images or job.sample.num_images
    return replace(
        job,
        config=replace(job.config, data=data),
        sample=replace(job.sample, num_images=num_images, batch_size=min(job.sample.batch_size, num_images)),
        reference=overrides.reference or job.reference,
        score_at=job.score_at if setting.is_scored else (),
    )
