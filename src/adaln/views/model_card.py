"""The card of a run on the hub: what was trained on what, how it started, its scores and what they compare with."""

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from adaln.codec import leaves
from adaln.conditioning import SCHEMES, in_words
from adaln.config import PRESETS, RunConfig, log_interval, model_name, to_dict
from adaln.metrics import METRICS, Scores
from adaln.models import MODELS
from adaln.processes import PROCESSES
from adaln.report import Column, Table, markdown
from adaln.runs import Run
from adaln.views.scores import scores_of, step_of

TASK = {"type": "unconditional-image-generation", "name": "Image generation"}
NO_STATE = (
    "The optimiser's state is not here: training does not go on from these files. Nothing here is code, and `adaln`"
    " runs none: it reads safetensors and JSON alone."
)


def model_card(run: Run, step: int, repo: str, export: str = "") -> str:
    """README.md of a run's checkpoint in a repository, in whose folder `export` diffusers finds its network."""
    config, scores = run.config, [of for of in scores_of(run) if step_of(of) == step]
    what = f"{model_name(config.model)} started as {config.scheme.name}"
    parts = [
        _metadata(run, repo, scores),
        f"# {what}, on {_data(run)}",
        f"{_first_sentence(run, step)} {'' if scores else 'It has not been scored.'}".rstrip(),
        *(["## Scores"] if scores else []),
        *(markdown(of.blocks()[0]) for of in scores),
        "## Use",
        _use(repo, export),
        "## How it was made",
        _block("sh", train_command(config) or "adaln train --config config.json  # of this repository"),
        markdown(Table("The run", [Column("what"), Column("is")], [[*row] for row in _facts(run, step).items()])),
        "## What is not here",
        NO_STATE,
    ]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def train_command(config: RunConfig) -> str:
    """The command that trains this config from its preset; "" where flags cannot say it."""
    try:
        base, scheme_there = PRESETS[config.name](), SCHEMES[config.scheme.name] == config.scheme
    except ValueError:  # a run of another name, a scheme of one's own
        return ""
    words = ["adaln", "train", config.name]
    same = {"model": base.model == config.model, "process": base.process == config.process}
    known = {
        "model": _name_in(MODELS, config.model),
        "process": _name_in(PROCESSES, config.process),
        "scheme": config.scheme.name if scheme_there else "",
    }
    if not scheme_there or not all(same[part] or known[part] for part in same):
        return ""
    words += [word for part in same if not same[part] for word in (f"--{part}", known[part])]
    words += [] if base.scheme == config.scheme else ["--scheme", known["scheme"]]
    usual = dict(leaves(to_dict(base)))
    if config.steps != base.steps:  # as a command that says the steps has it
        usual["log_every"] = log_interval(base.log_every, config.steps)
    for path, value in leaves(to_dict(config)):
        if path.partition(".")[0] not in ("model", "process", "scheme") and value != usual.get(path):
            words += _flag(path, value)
    return shlex.join(words)


def _name_in(registry: Mapping[str, object], entry: object) -> str:
    return next((name for name, other in registry.items() if other == entry), "")


def _flag(path: str, value: Any) -> list[str]:
    head, dot, leaf = path.replace("_", "-").rpartition(".")
    if isinstance(value, bool):
        return [f"--{head}{dot}{'' if value else 'no-'}{leaf}"]
    values = value if isinstance(value, list | tuple) else [value]
    return [f"--{head}{dot}{leaf}", *map(str, values)]


def _metadata(run: Run, repo: str, scores: Sequence[Scores]) -> str:
    """The head that the hub reads, one JSON value a line, which is YAML."""
    data = run.manifest["data"]
    rows: dict[str, Any] = {
        "library_name": "adaln",
        "pipeline_tag": TASK["type"],
        "tags": ["adaln", "diffusion", "diffusion-transformer", run.config.scheme.name],
    }
    if run.config.data.path.startswith("hf:"):
        rows["datasets"] = [run.config.data.path.removeprefix("hf:")]
    results = [
        {
            "task": TASK,
            "dataset": {"type": str(data["name"]), "name": str(of.provenance["reference"]["name"])},
            "metrics": [
                {"type": name, "name": f"{METRICS[name].title} ({score.label})", "value": score.value}
                for name, score in of.scores.items()
            ],
        }
        for of in scores
    ]
    rows["model-index"] = [{"name": repo.partition("/")[2], "results": results}] if results else []
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in rows.items() if value]
    return "\n".join(["---", *lines, "---"])


def _data(run: Run) -> str:
    return PurePath(str(run.manifest["data"]["name"])).name


def _first_sentence(run: Run, step: int) -> str:
    data, parameters = run.manifest["data"], run.manifest["parameters"]
    spec = run.spec
    images = f"{data['num_images']:,} images" if data["num_images"] else "images that are not known"
    classes = f" in {spec.num_classes} classes" if spec.num_classes else ""
    return (
        f"A diffusion transformer of {parameters['network']:,} parameters, trained for {step:,} steps of"
        f" {run.config.batch_size} on {images}{classes} ({spec.channels} x {spec.height} x {spec.width}); the averaged"
        " weights (`ema`) are those that are sampled from."
    )


def _use(repo: str, export: str) -> str:
    lines = [
        _block("sh", "pip install 'adaln[hub]'", f"adaln sample hf:{repo} --num-images 16", f"adaln audit hf:{repo}"),
        _block("python", "import adaln", "", f'run = adaln.open_run("hf:{repo}")', "adaln.sample(run, num_images=16)"),
    ]
    if export:
        load = f'DiTTransformer2DModel.from_pretrained("{repo}", subfolder="{export}")'
        lines.append(_block("python", "from diffusers import DiTTransformer2DModel", "", f"network = {load}"))
    return "\n\n".join(lines)


def _block(language: str, *lines: str) -> str:
    return "\n".join([f"```{language}", *lines, "```"])


def _facts(run: Run, step: int) -> dict[str, str]:
    config, manifest = run.config, run.manifest
    session, scheme, optim = (manifest.get("sessions") or [{}])[-1], config.scheme, config.optim
    loss = [row["loss"] for row in run.metrics() if row["step"] <= step][-1:]
    return {
        "data": f"{_data(run)}, fingerprint {manifest['data']['fingerprint'][:12]}",
        "network": _name_in(MODELS, config.model) or str(config.model),
        "start": f"{scheme.name}: gate {in_words(scheme.gate)}, scale {in_words(scheme.scale)},"
        f" shift {in_words(scheme.shift)}, head {in_words(scheme.head)}",
        "process": _name_in(PROCESSES, config.process) or type(config.process).__name__,
        "optimiser": f"learning rate {optim.lr:g}, betas {optim.betas}, average {optim.ema_decay:g}",
        "steps": f"{step:,} of {config.steps:,}, batches of {config.batch_size}",
        "seed": str(config.seed),
        "training loss": f"{loss[0]:.4f}" if loss else "not logged",
        "versions": ", ".join(f"{name} {session[name]}" for name in ("adaln", "torch", "python") if name in session),
    }
