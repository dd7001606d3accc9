"""The run directory: where the verbs meet.

config.json      canonical config          manifest.json   versions, data, parameters, one entry per session
metrics.jsonl    loss against step         order.json      measured update order, where the scheme holds rows
checkpoints/000001000/{model,ema,training}.safetensors
scores/, samples/, analysis/               written by the other verbs
"""

import json
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import nn

from adaln.codec import canonical_json, short_hash
from adaln.conditioning import Scheme, all_starts, find_layout, initialise, num_held
from adaln.config import RunConfig, differing_fields, from_dict, to_dict
from adaln.data import Batches, Dataset, load
from adaln.data.dataset import count_classes
from adaln.execution import check_precision
from adaln.files import naming, reading, remove_temporaries, write_atomically
from adaln.models import build, null_label, skeleton
from adaln.parallel import find_device, rank, world
from adaln.registry import nearest
from adaln.rng import generator
from adaln.runs.checkpoints import Checkpoints, load_into
from adaln.tensor_files import WeightSet, load_tensors
from adaln.types import DataSpec, NonFinite, Process
from adaln.version import __version__


def is_run(path: Path | str) -> bool:
    """Whether a folder is a run: its config.json has a scheme (that of a diffusers model has a `_class_name`).

    One that cannot be read is of a run if it speaks of a scheme or checkpoints lie beside it: `Run.open` says so.
    """
    file = Path(path) / "config.json"
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except OSError:
        return False
    except ValueError:
        return b'"scheme"' in file.read_bytes() or (file.parent / "checkpoints").is_dir()
    return isinstance(config, dict) and "scheme" in config


def config_hash(config: RunConfig) -> str:
    """Ten hex digits that identify what is computed.

    The name does not enter, the scheme's content does. Nor do `steps`: the first steps of a longer run are the shorter
    run, so both live in one folder and are trained once.
    """
    row = to_dict(config)
    del row["name"], row["steps"]
    return short_hash(row)


class Run:
    """One training run on disk: made by `create`, found again by `open`."""

    def __init__(self, path: Path, config: RunConfig, device: torch.device | str = "cpu") -> None:
        self.path = path
        self.config = config
        self.device = torch.device(device)
        self.checkpoints = Checkpoints(path / "checkpoints", config.keep_checkpoints, config.keep_at)

    @classmethod
    def create(
        cls, config: RunConfig, root: Path = Path("runs"), out: Path | None = None, device: torch.device | str = "cpu"
    ) -> "Run":
        """The run of this config, in `root/NAME-HASH` or in `out`; an existing one is taken up where it stands.

        Raises `ValueError` naming each field that differs from the config of an existing run, but for `steps`: the
        file keeps the larger number, the run that is returned has the one asked for.
        """
        config = from_dict(to_dict(config))  # names a field of a wrong type, which no file could be read with
        run = cls(out or root / f"{config.name}-{config_hash(config)}", config, device)
        run.check_fits()
        existing = cls.open(run.path).config if (run.path / "config.json").exists() else None
        if existing and (differing := differing_fields(replace(existing, steps=config.steps), config)):
            raise ValueError(f"run {str(run.path)!r} has another config: {'; '.join(differing)}")
        if rank() == 0 and (existing is None or existing.steps < config.steps):
            write_atomically(run.path / "config.json", canonical_json(to_dict(config)))
        return run

    @classmethod
    def open(cls, path: Path | str, device: torch.device | str = "cpu") -> "Run":
        """The run in a folder; `ValueError` where there is none, with the nearest folder that is one."""
        path = Path(path)
        try:
            with reading(path / "config.json", "the config of a run"):
                row = json.loads((path / "config.json").read_text(encoding="utf-8"))
                if "_class_name" in row:
                    raise ValueError("it is a diffusers model, not a run")
                return cls(path, from_dict(row), device)
        except (FileNotFoundError, NotADirectoryError):
            runs = [str(folder) for folder in sorted(path.parent.glob("*")) if is_run(folder)]
            raise ValueError(f"{str(path)!r} is not a run (no config.json){nearest(str(path), runs)}") from None

    def check_fits(self) -> None:
        """Build the network without memory: what does not fit is said before anything is written."""
        config = self.config
        check_precision(config.precision, self.device)
        if config.model.outputs_per_channel != config.process.outputs_per_channel:
            raise ValueError(
                f"the process needs {config.process.outputs_per_channel} output(s) per channel, the model gives"
                f" {config.model.outputs_per_channel}: set model.learn_sigma as the process learns its variance or not"
                " (a flow takes a SiT)"
            )
        all_starts(find_layout(skeleton(config.model, self.spec)), config.scheme)

    @cached_property
    def dataset(self) -> Dataset:
        """The data, decoded; `ValueError` where the manifest says that the run began with other data.

        Loading is cached by the data room.
        """
        dataset, path = load(self.config.data), self.config.data.path
        began_with = self.manifest.get("data", {}).get("fingerprint", dataset.fingerprint)
        if began_with != dataset.fingerprint:
            where = f" ({Path(path).expanduser().absolute()})" if Path(path).expanduser().exists() else ""
            raise ValueError(
                f"run {str(self.path)!r} began with data {began_with[:12]}, {path!r}{where} now is"
                f" {dataset.fingerprint[:12]}: other images or labels; stand where the run was begun, or restore them"
            )
        return dataset

    @property
    def spec(self) -> DataSpec:
        """What the network is built for: from the manifest once there is one, so sampling needs no data."""
        known = self.manifest.get("data")
        if not known:
            return self.dataset.spec
        with reading(self.path / "manifest.json", "the manifest of a run"):
            return DataSpec(**known["spec"])

    @cached_property
    def process(self) -> Process:
        """The diffusion process."""
        return self.config.process.build()

    @property
    def null_label(self) -> int | None:
        """The label that stands for "no class"; None where the network has no such row."""
        return null_label(self.config.model, self.spec)

    def batches(self, of: int | None = None) -> Batches:
        """The share of the endless batches by (seed, step) that falls to this process, or to process `of`."""
        config = self.config
        if config.batch_size % world():
            raise ValueError(f"batch_size is {config.batch_size}; expected a multiple of the {world()} processes")
        return Batches(self.dataset, config.batch_size // world(), config.seed, rank() if of is None else of, world())

    @property
    def manifest(self) -> dict[str, Any]:
        """The manifest, or an empty one before the first session."""
        file = self.path / "manifest.json"
        with reading(file, "the manifest of a run"):
            return dict(json.loads(file.read_text(encoding="utf-8"))) if file.exists() else {}

    def new_model(self) -> nn.Module:
        """The network as its scheme starts it."""
        model = build(self.config.model, self.spec, generator("init", self.config.seed))
        initialise(model, self.config.scheme, generator("scheme", self.config.seed))
        return model.to(self.device)

    def steps_saved(self) -> list[int]:
        """Steps of the complete checkpoints, ascending; waits for one that is being written."""
        return self.checkpoints.steps()

    def folder(self, step: int) -> Path:
        """Where the checkpoint of a step lies."""
        return self.checkpoints.folder(step)

    def averaged_model(self, step: int | None = None) -> tuple[nn.Module, int]:
        """The network of a checkpoint, the newest by default, with its averaged weights; and its step."""
        return self.load_model(step, "ema")

    def load_model(self, step: int | None, weights: WeightSet) -> tuple[nn.Module, int]:
        """As `averaged_model`, with the averaged or the raw weights.

        Raises `ValueError` where there is none, or where it is not finite.
        """
        saved = self.steps_saved()
        if not saved or (step is not None and step not in saved):
            wanted = "any step" if step is None else f"step {step}"
            raise ValueError(
                f"run {str(self.path)!r} has no complete checkpoint at {wanted}; it has: {saved or 'none'}"
            )
        step = saved[-1] if step is None else step
        model = build(self.config.model, self.spec, generator("init", self.config.seed))
        file = self.folder(step) / f"{weights}.safetensors"
        load_into(model, load_tensors(file), str(file))
        for name, tensor in model.state_dict().items():
            if not bool(tensor.isfinite().all()):
                raise NonFinite(f"{file}: {name!r} is not finite")
        return model.to(self.device).eval().requires_grad_(False), step

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl: step, loss (the mean since the line before), grad_norm."""
        return read_records(self.path / "metrics.jsonl")


def open_run(path: Path | str, device: str = "auto") -> Run:
    """The run in a folder, on cpu, cuda or mps; auto: the fastest there is.

    What it holds: `run.config`, `run.steps_saved()`, `run.averaged_model(step=None)`, `run.metrics()`;
    `adaln.scores_of(run)` are its scores. Raises `ValueError` where there is no run, naming the nearest folder.

    >>> import adaln
    >>> adaln.open_run("runs/nowhere")
    Traceback (most recent call last):
    ValueError: 'runs/nowhere' is not a run (no config.json)
    """
    return Run.open(path, find_device(device))


def environment(device: torch.device) -> dict[str, Any]:
    """What a number depends on beyond the config: versions and numeric settings of this process."""
    accelerator = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return {
        "adaln": __version__,
        "commit": _commit(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "safetensors": version("safetensors"),
        "device": accelerator,
        "num_threads": torch.get_num_threads(),
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
    }


def describe_data(dataset: Dataset) -> dict[str, Any]:
    """What the run learned from; the fingerprint is over pixels (or moments) and labels."""
    return {
        "name": dataset.name,
        "fingerprint": dataset.fingerprint,
        "num_images": len(dataset),
        "class_names": list(dataset.class_names),
        "class_counts": list(count_classes(dataset.labels, dataset.class_names).values()),
        "passed_over": list(dataset.passed_over),
        "skipped": list(dataset.skipped),
        "spec": asdict(dataset.spec),
        "latents": dataset.describe_latents(),
    }


def describe_parameters(model: torch.nn.Module, scheme: Scheme) -> dict[str, int]:
    """Trainable parameters of the network, and how many of them the scheme leaves to training."""
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    total = sum(p.numel() for p in trainable.values())
    return {"network": total, "trained": total - num_held(trainable, scheme)}


def _commit() -> str | None:
    """Commit of the source tree that this package runs from; None for an installed wheel."""
    here = Path(__file__).parent
    try:
        shown = subprocess.run(
            ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=40"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return shown.stdout.strip()


def read_records(path: Path) -> list[dict[str, Any]]:
    """The complete lines of a .jsonl file; a last line torn by a kill is left out; none where there is no file.

    Raises `ValueError` naming the first line that is not the record of a step.
    """
    if not path.exists():
        return []
    with reading(path, "text"):
        lines = path.read_text(encoding="utf-8").split("\n")
    records = []
    for number, line in enumerate(lines[:-1], 1):  # what follows the last newline is torn
        if line:
            with reading(path, f"whole, see line {number}"):
                records.append(json.loads(line))
                int(records[-1]["step"])
    return records


def append_record(path: Path, row: Mapping[str, Any]) -> None:
    """Add a line to a .jsonl file."""
    with naming(path), path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row, allow_nan=False) + "\n")


def drop_from(path: Path, step: int) -> None:
    """Drop records at or past `step`, which will be written again, and what killed writers of the file have left."""
    remove_temporaries(path.parent, path.name)
    if path.exists():
        kept = [json.dumps(row) for row in read_records(path) if row["step"] < step]
        write_atomically(path, "".join(f"{line}\n" for line in kept))
