"""Whether a plan is the published protocol: the scale `paper` refuses to be anything else.

Source: section 4 of the paper.
"""

from dataclasses import replace
from pathlib import Path

from adaln.config import PRESETS, differing_fields
from adaln.data import describe_latents, load
from adaln.studies.plan import Changes, Job, Plan, Setting

AUTOENCODER, SCALING_FACTOR = "sd-vae-ft-ema", 0.18215
NUM_IMAGES_AND_CLASSES = {"imagenet-256": (1_281_167, 1_000), "imagenet-512": (1_281_167, 1_000)}
"""Of ImageNet-1K; of the other sets the paper says neither."""


def check_is_papers(plan: Plan) -> None:
    """`ValueError` naming everything in which a plan of scale `paper` is not the published protocol.

    Places (where latents and reference lie) may be chosen; what lies there must be what the paper used.
    """
    if plan.scale.name != "paper":
        return
    published = replace(plan, changes=Changes(plan.changes.data, plan.changes.reference))
    pairs = zip(plan.study.settings, plan.jobs(), published.jobs(), strict=False)
    found = {line for _, ours, theirs in pairs for line in deviations(ours, theirs)}
    found |= {line for setting in plan.study.settings for line in data_deviations(setting, plan.changes)}
    if found:
        raise ValueError(
            f"scale paper is the published protocol and nothing else; here {'; '.join(sorted(found))}. Expected none of"
            " these, or --scale small or tiny"
        )


def deviations(ours: Job, theirs: Job) -> list[str]:
    """`"steps: 50000 -> 100"` for each choice in which two jobs differ."""
    sizes = [("num_images", theirs.sample.num_images, ours.sample.num_images)]
    return [
        *differing_fields(theirs.config, ours.config),
        *(f"{name}: {published} -> {here}" for name, published, here in sizes if published != here),
    ]


def data_deviations(setting: Setting, changes: Changes) -> list[str]:
    """In what a set of latents is not the paper's."""
    preset = PRESETS[setting.data]().data
    dataset = load(replace(preset, path=changes.data or preset.path))
    space = (describe_latents(dataset) or {}).get("space") or {"autoencoder": None, "scaling_factor": None}
    side = (preset.size or 0) // 8
    facts: list[tuple[str, object, object]] = [
        ("latents of", AUTOENCODER, Path(space["autoencoder"] or "none").name),
        ("latents scaled by", SCALING_FACTOR, space["scaling_factor"]),
        ("latents of shape", (4, side, side), (dataset.spec.channels, dataset.spec.height, dataset.spec.width)),
    ]
    if setting.data in NUM_IMAGES_AND_CLASSES:
        facts.append(
            ("images and classes", NUM_IMAGES_AND_CLASSES[setting.data], (len(dataset), dataset.spec.num_classes))
        )
    return [f"{what} {expected} -> {found}" for what, expected, found in facts if expected != found]
