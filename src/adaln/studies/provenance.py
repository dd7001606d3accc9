"""How a page was made: every choice behind its numbers, and what stood in for the paper's own."""

from adaln.config import model_name
from adaln.report import Facts
from adaln.studies.study import Outcome, Setting

OF_SAMPLES = ("weights sampled", "solver", "guidance scale", "samples per score", "labels")
"""Choices that say nothing of runs from which no samples are drawn."""


def choices(outcome: Outcome) -> Facts:
    """Every choice that influences the numbers, told from one of the runs."""
    config, sample, manifest = outcome.job.config, outcome.job.sample, outcome.run.manifest
    session, data = manifest["sessions"][-1], manifest["data"]
    facts = {
        "network": network_text(outcome),
        "data": f"{data_name(outcome)}, {data['num_images']} images, {data['fingerprint'][:12]}",
        "steps x batch": f"{config.steps} x {config.batch_size}",
        "learning rate": config.optim.lr,
        "EMA decay": config.optim.ema_decay,
        "label dropout": config.model.class_dropout_prob,
        "weights sampled": "EMA",
        "solver": f"{sample.sampler.solver}, {sample.sampler.steps} steps",
        "guidance scale": sample.guidance.scale,
        "samples per score": sample.num_images,
        "labels": str(sample.labels),
        "torch": session["torch"],
        "device": session["device"],
        "threads per run": session["num_threads"],
        "commit": session["commit"],
    }
    left_out = () if outcome.job.score_at else OF_SAMPLES
    return Facts("Choices", {name: value for name, value in facts.items() if name not in left_out})


def stand_in_text(outcome: Outcome, setting: Setting) -> str:
    """What a run used, and what the paper used in its place."""
    data, config, spec = outcome.run.manifest["data"], outcome.job.config, outcome.run.spec
    classes = f"{spec.num_classes} classes" if spec.num_classes else "no classes"
    mirrored = ", mirrored at random" if config.data.flip else ""
    return (
        f"{network_text(outcome)} on {data_name(outcome)} ({data['num_images']:,} of {spec.channels} x {spec.height} x"
        f" {spec.width}, {classes}{mirrored}), {config.steps:,} steps, CFG {outcome.job.sample.guidance.scale:g}; the"
        f" paper: {setting.model} on {setting.data}, {setting.steps:,} steps, CFG {setting.guidance:g}."
    )


def network_text(outcome: Outcome) -> str:
    """The network by its sizes, and the name under which it was published."""
    model = outcome.job.config.model
    name = model_name(model)
    sizes = model.describe()
    return sizes if name.startswith("custom") or "tiny" in name else f"{name}, {sizes}"


def data_name(outcome: Outcome) -> str:
    """What the run learnt from."""
    return str(outcome.run.manifest["data"]["name"])
