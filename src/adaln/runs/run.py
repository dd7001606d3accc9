"""The run directory: where the verbs meet.

config.json      canonical config          manifest.json   versions, data, parameters, one entry per session
metrics.jsonl    loss against step         speed.jsonl     seconds and memory of the same steps, of no effect
order.json       measured update order, where the scheme holds rows
checkpoints/000001000/{model,ema,training}.safetensors
scores/, samples/, analysis/               written by the other verbs
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from adaln.codec import canonical_json, decode
from adaln.conditioning import Layout, UnknownLayout, all_starts, find_layout, initialise, roles_of
from adaln.config import RunConfig, differing_fields, from_dict, to_dict
from adaln.data import Batches, DataConfig, Dataset, absolute_path, canonical_path, load
from adaln.execution import check_precision
from adaln.files import naming, reading, remove_temporaries, write_atomically
from adaln.models import OwnConfig, build, mup_factors, null_label, skeleton
from adaln.parallel import find_device, rank, world
from adaln.progress import note
from adaln.registry import nearest
from adaln.rng import generator
from adaln.runs.checkpoints import Checkpoints, load_into
from adaln.runs.fetched import local
from adaln.runs.folders import data_place, is_run, run_folder, spelled
from adaln.runs.power_averages import average
from adaln.tensor_files import WeightSet, load_tensors
from adaln.types import DataSpec, NonFinite, Process


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
        """As `planned`, and its config is written: of two numbers of steps the file keeps the larger one."""
        run = cls.planned(config, root, out, device)
        file = run.path / "config.json"
        if rank() == 0 and (not file.exists() or cls.open(run.path).config.steps < run.config.steps):
            write_atomically(file, canonical_json(to_dict(run.config)))
        return run

    @classmethod
    def planned(
        cls, config: RunConfig, root: Path = Path("runs"), out: Path | None = None, device: torch.device | str = "cpu"
    ) -> "Run":
        """The run of this config, in `root/NAME-HASH` or in `out`; an existing one is taken up where it stands.

        Nothing is written. Raises `ValueError` naming each field that differs from the config of an existing run, but
        for `steps`, of which the run that is returned has those asked for.
        """
        config = from_dict(to_dict(config))  # names a field of a wrong type, which no file could be read with
        path, data, place = out or run_folder(config, root), config.data, absolute_path(config.data.path)
        existing = cls.open(path).config if (path / "config.json").exists() else None
        is_same_place = existing and place and data_place(path, existing) == place
        config = spelled(config, existing.data.path if existing and is_same_place else canonical_path(data.path))
        run = cls(path, config, device)
        if place:
            run.data = data  # as it is seen from here, wherever the run was begun
        if caveat := run.check_fits().caveat:
            note(caveat)
        if existing and (differing := differing_fields(replace(existing, steps=config.steps), config)):
            raise ValueError(f"run {str(run.path)!r} has another config: {'; '.join(differing)}")
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

    def check_fits(self) -> Layout:
        """Where its conditioning lives, of the network without memory: what does not fit is said before anything is
        written."""
        config = self.config
        check_precision(config.precision, self.device)
        config.model.check(self.spec, config.process)
        network = skeleton(config.model, self.spec)
        try:
            layout = find_layout(network)
        except UnknownLayout as error:
            if isinstance(config.model, OwnConfig) and len(error.args) > 1:  # a description helps
                raise UnknownLayout(error.args[0], config.model.way_to_a_layout()) from error
            raise
        all_starts(layout, config.scheme)
        if config.optim.roles:
            roles_of(dict(network.named_parameters()), layout, config.optim.roles)
        self.lr_factors()
        return layout

    def lr_factors(self) -> dict[str, float]:
        """What multiplies the learning rate of each weight that is named: muP's, where the config has a base width."""
        base_width = self.config.optim.mup
        return mup_factors(self.config.model, self.spec, base_width) if base_width else {}

    @cached_property
    def data(self) -> DataConfig:
        """What is learned from, by the path at which it lies now: that of the manifest, whatever the working folder is.

        Raises `ValueError` where it was begun with a file or folder that is gone.
        """
        config = self.config
        place, recorded = data_place(self.path, config), self.manifest.get("data", {}).get("path")
        if recorded and not place:
            raise ValueError(
                f"no data at {recorded!r}, where run {str(self.path)!r} was begun, nor at {config.data.path!r} relative"
                f" to {Path.cwd()}"
            )
        is_here = place in (None, absolute_path(config.data.path))
        return config.data if is_here or place is None else spelled(config, place).data

    @cached_property
    def dataset(self) -> Dataset:
        """The data, decoded; `ValueError` where the manifest says that the run began with other data.

        Loading is cached by the data room.
        """
        dataset = load(self.data)
        began_with = (self.manifest.get("data") or {}).get("fingerprint")
        if began_with is None and self.steps_saved():
            raise ValueError(
                f"{self.path / 'manifest.json'} has no fingerprint of the run's data: nothing confirms that"
                f" {self.config.data.path!r} is what it learned from; restore it, or name the data as --reference"
            )
        if began_with not in (None, dataset.fingerprint):
            where = f" ({place})" if (place := absolute_path(self.data.path)) else ""
            raise ValueError(
                f"run {str(self.path)!r} began with data {began_with[:12]}, {self.config.data.path!r}{where} now is"
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

    @cached_property
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
            row = dict(json.loads(file.read_text(encoding="utf-8"))) if file.exists() else {}
            for name, kind in {"data": dict, "parameters": dict, "sessions": list}.items():
                if not isinstance(row.get(name, kind()), kind):
                    raise ValueError(f"{name} is {row[name]!r:.60}")
        return row

    def new_model(self) -> nn.Module:
        """The network as its scheme starts it."""
        model = build(self.config.model, self.spec, generator("init", self.config.seed))
        initialise(model, self.config.scheme, generator("scheme", self.config.seed))
        return model.to(self.device)

    def steps_saved(self) -> list[int]:
        """Steps of the complete checkpoints, ascending; waits for one that is being written."""
        return self.checkpoints.steps()

    def step_saved(self, step: int | None = None) -> int:
        """A step of which there is a complete checkpoint, by default the newest; `ValueError` where there is none."""
        saved = self.steps_saved()
        if not saved or (step is not None and step not in saved):
            wanted = "any step" if step is None else f"step {step}"
            raise ValueError(
                f"run {str(self.path)!r} has no complete checkpoint at {wanted}; it has: {saved or 'none'}"
            )
        return saved[-1] if step is None else step

    def folder(self, step: int) -> Path:
        """Where the checkpoint of a step lies."""
        return self.checkpoints.folder(step)

    def folders_until(self, step: int) -> list[Path]:
        """The complete checkpoints up to a step, ascending."""
        return [self.folder(saved) for saved in self.steps_saved() if saved <= step]

    def averaged_model(self, step: int | None = None) -> tuple[nn.Module, int]:
        """The network of a checkpoint, the newest by default, with its averaged weights; and its step."""
        return self.load_model(step, "ema")

    def load_model(self, step: int | None, weights: WeightSet, width: float | None = None) -> tuple[nn.Module, int]:
        """As `averaged_model`, with the averaged or the raw weights, or with the power-function average of that width.

        Raises `ValueError` where there is none, or where it is not finite.
        """
        step = self.step_saved(step)
        model = build(self.config.model, self.spec, generator("init", self.config.seed))
        file = self.folder(step) / f"{weights}.safetensors"
        tensors = load_tensors(file)
        if width is not None:
            averages = average(self.folders_until(step), width)
            tensors |= {name: averages[name].to(tensors[name].dtype) for name in averages}
        load_into(model, tensors, str(file))
        for name, tensor in model.state_dict().items():
            if not bool(tensor.isfinite().all()):
                raise NonFinite(f"{file}: {name!r} is not finite")
        return model.to(self.device).eval().requires_grad_(False), step

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl: step, loss (the mean since the line before), grad_norm."""
        return read_records(self.path / "metrics.jsonl", ("loss", "grad_norm"))


def open_run(path: Path | str, device: str = "auto") -> Run:
    """The run in a folder or on the hub (`hf:ORG/NAME`), on cpu, cuda or mps; auto: the fastest there is.

    What it holds: `run.config`, `run.steps_saved()`, `run.averaged_model(step=None)`, `run.metrics()`;
    `adaln.scores_of(run)` are its scores. Raises `ValueError` where there is no run, naming the nearest folder.

    >>> import adaln
    >>> adaln.open_run("runs/nowhere")
    Traceback (most recent call last):
    ValueError: 'runs/nowhere' is not a run (no config.json)
    """
    return Run.open(local(path), find_device(device))


def read_records(path: Path, numbers: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The complete lines of a .jsonl file; a last line torn by a kill is left out; none where there is no file.

    Raises `ValueError` naming the first line that is not the record of a step, or lacks one of these numbers.
    """
    if not path.exists():
        return []
    with reading(path, "text"):
        lines = path.read_text(encoding="utf-8").split("\n")
    records = []
    for number, line in enumerate(lines[:-1], 1):  # what follows the last newline is torn
        if line:
            with reading(path, f"whole, see line {number}"):
                records.append(row := json.loads(line))
                decode(int, row["step"], "step")
                for name in numbers:
                    decode(float, row[name], name)
    return records


def append_record(path: Path, row: Mapping[str, Any]) -> None:
    """Add a line to a .jsonl file, all of it or nothing: what a full disk takes of it is taken back."""
    left = json.dumps(row, allow_nan=False).encode() + b"\n"
    with naming(path), path.open("ab", buffering=0) as file:
        end = file.tell()
        try:
            while left:
                left = left[file.write(left) :]
        except OSError:
            file.truncate(end)
            raise


def drop_from(path: Path, step: int) -> None:
    """Drop records at or past `step`, which will be written again, and what killed writers of the file have left."""
    remove_temporaries(path.parent, path.name)
    if path.exists():
        kept = [json.dumps(row) for row in read_records(path) if row["step"] < step]
        write_atomically(path, "".join(f"{line}\n" for line in kept))
