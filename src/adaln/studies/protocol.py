"""Whether a plan of scale `paper` is the published protocol, and has what that needs."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from adaln.config import PRESETS, differing_fields
from adaln.data import is_encoded, load
from adaln.files import expanded
from adaln.studies.choices import Overrides
from adaln.studies.scales import REFERENCES
from adaln.studies.study import Job, Plan

AUTOENCODER, SCALING_FACTOR = "sd-vae-ft-ema", 0.18215
NUM_IMAGES_AND_CLASSES = {"imagenet-256": (1_281_167, 1_000), "imagenet-512": (1_281_167, 1_000)}
"""Of ImageNet-1K; of the other sets the paper says neither."""


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
