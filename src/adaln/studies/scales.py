"""The sizes at which the paper is repeated: two CPU cores, one GPU, or the published protocol itself.

Each scale stands in for the paper's models, data sets and step counts with its own; ratios between rows are kept where
the machine allows it. Source of `paper`: section 4 of the paper, which trained with fast-DiT in mixed precision: here
bfloat16, at `small` as well. Of that scale `check_is_papers` accepts the published protocol and nothing else.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from adaln.conditioning import Scheme, scheme
from adaln.config import PRESETS, RunConfig, differing_fields, digits, images_32
from adaln.data import DataConfig, is_encoded, load
from adaln.files import expanded
from adaln.models import MODELS, DiTConfig, ModelConfig
from adaln.processes import PROCESSES, Guidance, SamplerConfig
from adaln.sampling import SampleConfig
from adaln.specs import DataSpec
from adaln.studies.choices import Overrides
from adaln.studies.study import Job, Plan, Scale, Setting

Sizes = Mapping[str, tuple[int, int, int]]
"""Width, depth and heads that stand in for a size of the paper."""
TINY_SIZES: Sizes = {"XL": (64, 4, 4), "L": (48, 4, 4), "B": (32, 3, 4)}
TINY_STEPS = {160: 20, 10_000: 250, 25_000: 500, 50_000: 1_000, 200_000: 1_500, 400_000: 2_000, 800_000: 4_000}
"""The paper's steps and their stand-ins; a number of steps that is not among them is taken as it is.

Adam moves a weight by at most the learning rate per step: 250 steps at the digits' 4e-3 go as far as the paper's 10K at
1e-4. As far as its first 160 would be 4; 20 show something.
"""
TINY_EVERY = 250
"""Steps between checkpoints, all of which are kept."""
TINY_KEPT = (TINY_STEPS[160], *range(TINY_EVERY, TINY_STEPS[800_000] + 1, TINY_EVERY))
TINY_DATA = {
    "imagenet-256": DataConfig(),
    "imagenet-512": DataConfig(size=16),
    "tiny-imagenet": DataConfig(size=16),
    "afhq": DataConfig(flip=True),
    "celeba-hq": DataConfig(conditional=False),
}
SMALL_SIZES: Sizes = {"XL": (384, 12, 6), "L": (320, 10, 5), "B": (256, 8, 4)}
SMALL_STEPS = {10_000: 1_000, 25_000: 2_500, 50_000: 5_000, 200_000: 10_000, 400_000: 20_000, 800_000: 40_000}
SMALL_EVERY = 1_250
SMALL_KEPT = (160, 1_000, 1_250, 2_500, 5_000, 10_000, 20_000, 40_000)
SMALL_DATA = {
    "imagenet-256": DataConfig("images", 32, flip=True),
    "imagenet-512": DataConfig("images", 64, flip=True),
    "tiny-imagenet": DataConfig("images", 64, flip=True),
    "afhq": DataConfig("images", 32),
    "celeba-hq": DataConfig("images", 32, flip=True, conditional=False),
}
PAPER_KEPT = (160, 10_000, 50_000, 100_000, 200_000, 400_000, 800_000)
"""The paper's own timestamps, and two between them."""
PAPER_SCORED = (50_000, 100_000, 200_000, 400_000, 800_000)
REFERENCES = {"imagenet-256": "VIRTUAL_imagenet256_labeled.npz", "imagenet-512": "VIRTUAL_imagenet512.npz"}
"""ADM's reference batches under their published names; `adaln stats` makes those of other sets."""
AUTOENCODER, SCALING_FACTOR = "sd-vae-ft-ema", 0.18215
NUM_IMAGES_AND_CLASSES = {"imagenet-256": (1_281_167, 1_000), "imagenet-512": (1_281_167, 1_000)}
"""Of ImageNet-1K; of the other sets the paper says neither."""


def tiny(setting: Setting, seed: int, overrides: Overrides) -> Job:
    """Digits on two CPU cores: a run takes half a minute."""
    steps = overrides.steps or TINY_STEPS.get(setting.steps, setting.steps)
    model = stand_in(setting, TINY_SIZES, "U-DiT-tiny")
    config = replace(
        configured(digits(), setting, seed, model, TINY_DATA[setting.data]),
        steps=steps,
        log_every=5,
        checkpoint_every=TINY_EVERY,
        keep_checkpoints=0,
    )
    solver = SamplerConfig(solver="heun", steps=10) if is_flow(setting) else SamplerConfig("ddim", 20, clip=True)
    sample = SampleConfig(num_images=1_000, batch_size=500, sampler=solver, guidance=guidance(setting, "all"))
    job = Job(setting.label, config, quarters(steps, TINY_EVERY), sample, group=setting.group)
    return kept(changed(job, setting, overrides), TINY_KEPT)


def small(setting: Setting, seed: int, overrides: Overrides) -> Job:
    """32-pixel colour images on one GPU: an hour or so for a table."""
    steps = overrides.steps or SMALL_STEPS.get(setting.steps, setting.steps)
    model = stand_in(setting, SMALL_SIZES, "U-DiT-S")
    config = replace(
        configured(replace(images_32(), precision="bfloat16"), setting, seed, model, SMALL_DATA[setting.data]),
        steps=steps,
        log_every=20,
    )
    solver = SamplerConfig(solver="heun", steps=25) if is_flow(setting) else SamplerConfig("ddim", 50, clip=True)
    sample = SampleConfig(num_images=5_000, batch_size=500, sampler=solver, guidance=guidance(setting, "all"))
    job = Job(setting.label, config, quarters(steps, SMALL_EVERY), sample, group=setting.group)
    return kept(changed(job, setting, overrides), SMALL_KEPT)


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
    "tiny": Scale("tiny", "two CPU cores, minutes per table: digits", tiny, seeds=3),
    "small": Scale("small", "one GPU, an hour or so per table: 32-pixel images, DiT-S/2", small, seeds=3),
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


def check_is_papers(plan: Plan) -> None:
    """`ValueError` in one line where a plan of scale `paper` is not the published protocol, or lacks what it needs.

    What a study asks about (schemes, and in some learning rates or widths) is its own; everything else is the paper's.
    Places (where latents and reference lie) may be chosen; what lies there must be what the paper used. Sizes are
    looked at first, then places, then what lies there: nothing large is read for a plan that is refused.
    """
    if plan.scale.name != "paper":
        return
    published = replace(plan, overrides=Overrides(plan.overrides.data, plan.overrides.reference))
    pairs = zip(plan.jobs(), published.jobs(), strict=True)
    refuse([line for ours, theirs in pairs for line in deviations(ours, theirs)])
    jobs = sorted(zip(plan.study.settings, published.jobs(), strict=False), key=lambda pair: pair[0].is_scored)
    places = {setting.data: job for setting, job in jobs}  # of each set one that is scored, where there is one
    if missing := [line for name, job in places.items() for line in missing_places(name, job)]:
        raise ValueError(f"scale paper lacks {'; '.join(missing)}")
    refuse([line for name, job in places.items() for line in data_deviations(name, job)])


def refuse(lines: Sequence[str]) -> None:
    """`ValueError` naming each deviation once."""
    if lines:
        raise ValueError(
            f"scale paper is the published protocol and nothing else; here {'; '.join(dict.fromkeys(lines))}. Expected"
            " none of these, or --scale small or tiny"
        )


def deviations(ours: Job, theirs: Job) -> list[str]:
    """`"steps: 50000 -> 100"` for each choice in which two jobs differ."""
    lines = [line for line in differing_fields(theirs.config, ours.config) if not line.startswith("keep_at")]
    published, here = theirs.sample.num_images, ours.sample.num_images
    return lines if here == published else [*lines, f"num_images: {published} -> {here}"]


def missing_places(name: str, job: Job) -> list[str]:
    """What is not there yet of the data set called `name`, each with the commands that make it."""
    data, layout, lines = job.config.data, PRESETS[name]().data.path, []
    if not expanded(data.path).exists():
        make = f"adaln encode IMAGES {data.path} --layout {layout}"
        lines.append(f"the latents {data.path!r} (to make them: {make}; if they lie elsewhere: --data PLACE)")
    if job.score_at and job.reference and not expanded(job.reference).exists():
        pixels = f"adaln encode IMAGES {layout}-pixels --layout {layout} --autoencoder none"
        make = f"to make it: {pixels}; adaln stats {layout}-pixels {job.reference} --features inception"
        source = "a reference batch of ADM's evaluation suite" if name in REFERENCES else make
        lines.append(f"the reference {job.reference!r} ({source}; if it lies elsewhere: --reference FILE)")
    return lines


def data_deviations(name: str, job: Job) -> list[str]:
    """In what a set of latents is not the paper's; pictures are not decoded to find out."""
    data = job.config.data
    if not is_encoded(data.path):
        return [f"{data.path!r} is no set of latents"]
    dataset = load(data)
    space = (dataset.describe_latents() or {}).get("space") or {"autoencoder": None, "scaling_factor": None}
    side = (data.size or 0) // 8
    facts: list[tuple[str, object, object]] = [
        ("latents of", AUTOENCODER, Path(space["autoencoder"] or "none").name),
        ("latents scaled by", SCALING_FACTOR, space["scaling_factor"]),
        ("latents of shape", (4, side, side), (dataset.spec.channels, dataset.spec.height, dataset.spec.width)),
    ]
    if name in NUM_IMAGES_AND_CLASSES:
        facts.append(("images and classes", NUM_IMAGES_AND_CLASSES[name], (len(dataset), dataset.spec.num_classes)))
    return [f"{what} {expected} -> {actual}" for what, expected, actual in facts if expected != actual]
