"""Seeds to images: sample i of a seed depends on (seed, i) alone, not on the batch it is drawn in."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from adaln.codec import changed
from adaln.data import Render, renderer
from adaln.execution import matrix_products
from adaln.files import atomic_file, write_atomically
from adaln.processes import count_updates, guided, solve, solver_name
from adaln.progress import progress
from adaln.rng import generator
from adaln.runs import Run, open_run
from adaln.runs.power_averages import distance
from adaln.sampling.config import EAGER, SampleConfig, SampleExecution
from adaln.sampling.networks import Weak, network
from adaln.types import Draw, Model, NonFinite

Images = UInt8[np.ndarray, "N H W C"]


@dataclass(frozen=True, slots=True, eq=False)
class Sampler:
    """All that is needed to draw any image of a sample."""

    run: Run
    config: SampleConfig
    model: Model
    weak: Model | None
    render: Render
    labels: Int64[np.ndarray, "N"]
    """-1 throughout for an unconditional model."""
    provenance: dict[str, Any]
    """All that a user chose of the images: what two scores of them have in common, and what their file is found by."""
    weights: tuple[Path, ...]
    """The files that the networks were read from."""

    @property
    def record(self) -> dict[str, Any]:
        """For the file beside the images and for every score made from them: `provenance`, the kind of device, of
        averaged weights their decay and the share of the start that is still in them, of one put together how far it
        is from the wanted one, and the name of the class where
        all images are of one."""
        run, of_one = self.run, isinstance(self.config.labels, int) and bool(self.run.spec.num_classes)
        names = run.manifest.get("data", {}).get("class_names", [])
        is_averaged = self.config.weights == "ema" and self.config.ema is None
        share = start_in_average(run, self.provenance["step"]) if is_averaged else None
        decay = run.config.optim.ema_decay if is_averaged and "imported" not in run.manifest else None
        about = {"class": names[int(self.labels[0])]} if of_one and len(names) > self.labels[0] else {}
        average = {"ema_decay": decay, "start_in_average": share}
        if self.config.ema is not None:
            average["ema_distance"] = distance(run.folders_until(self.provenance["step"]), self.config.ema)
        return {**self.provenance, **about, **average, "device": run.device.type}

    def batches(self) -> list[range]:
        """Indices of the images drawn together: all batches but the last have one shape."""
        size, count = self.config.batch_size, self.config.num_images
        return [range(start, min(start + size, count)) for start in range(0, count, size)]

    @property
    def updates(self) -> int | None:
        """Solver updates of each image; None for an adaptive solver."""
        return count_updates(self.run.process, self.config.sampler)

    def images(self, indices: range, after_update: Callable[[int], None]) -> Images:
        """The images of these indices, drawn together; `after_update` is called with how many of them made an update.

        Raises `NonFinite` naming the first image that the solver has let grow beyond all numbers.
        """
        run, spec = self.run, self.run.spec
        y = torch.from_numpy(self.labels[indices.start : indices.stop]).to(run.device) if spec.num_classes else None
        draw = seeded_draw(self.config.seed, indices, (spec.channels, spec.height, spec.width), run.device)
        x = draw()
        denoiser = guided(self.model, y, run.null_label, self.config.guidance, weak=self.weak)
        with matrix_products(self.config.dtype):
            for x in solve(run.process, denoiser, x, draw, self.config.sampler):  # noqa: B007, B020
                after_update(len(indices))
        bad = (~x.isfinite().flatten(1).all(dim=1)).nonzero()
        if len(bad):
            raise NonFinite(f"image {indices[int(bad[0])]} is not finite after the last update of the solver")
        return self.render(x).permute(0, 2, 3, 1).cpu().numpy()


def updates_as_progress(sampler: Sampler, before: int = 0, share: tuple[int, int] = (1, 1)) -> Callable[[int], None]:
    """What turns updates of so many images into progress, `before` of them drawn already.

    `share`: how many of the others this process draws, and how many all do; what one does stands for all. Updates are
    shown as the images that they make; as themselves for an adaptive solver.
    """
    updates, own = sampler.updates or 1, 0
    total, unit = (sampler.config.num_images, "images") if sampler.updates else (0, "image updates")

    def after_update(num_images: int) -> None:
        nonlocal own
        own += num_images
        all_new = own * share[1] // max(share[0], 1)
        progress(f"sample {sampler.run.path.name}", before + all_new // updates, total, unit)

    after_update(0)
    return after_update


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """Images in ADM's layout, and what they came from."""

    images: Images
    labels: Int64[np.ndarray, "N"]
    """-1 throughout for an unconditional model."""
    provenance: dict[str, Any]

    def save(self, path: Path | str) -> None:
        """Write ADM's npz (`arr_0` uint8 NHWC, `arr_1` labels), with the provenance beside it as .json."""
        path = Path(path)
        if path.suffix != ".npz":
            raise ValueError(f"path is {str(path)!r}; expected a name that ends in .npz")
        with atomic_file(path) as temporary, temporary.open("wb") as file:
            np.savez(file, self.images, self.labels)
        write_atomically(path.with_suffix(".json"), json.dumps(self.provenance, indent=1, sort_keys=True) + "\n")


def sample(
    run: Run | Path | str,
    config: SampleConfig | None = None,
    *,
    guidance: float | None = None,
    solver: str | None = None,
    steps: int | str | None = None,
    step: int | None = None,
    weak: Weak | None = None,
    execution: SampleExecution = EAGER,
    **changes: Any,
) -> Samples:
    """Images from the averaged weights of a run's checkpoint, that at `step` or the newest, all of them in memory.
    `weights="model"` takes the raw ones.

    Image i is a function of (seed, i) and its label. `config` and `changes` of its fields by their dotted names
    (`num_images=64`, `seed=1`, `**{"guidance.interval": (100, 800)}`) are those of `adaln sample`; `guidance` is the
    scale of classifier-free guidance, `solver` one of `SOLVERS`, which takes `steps`, and `weak` a run that takes the
    place of the null class. `save_samples` is for as many as the disk holds.

    Raises `ValueError` for a checkpoint, class, solver or guidance that the run does not have, and `NonFinite` naming
    the first image that the solver has let grow beyond all numbers.

    >>> import adaln
    >>> from tempfile import mkdtemp
    >>> run = adaln.train(adaln.preset("digits", steps=2), mkdtemp())
    >>> samples = adaln.sample(run, num_images=4, solver="ddim", steps=2)
    >>> samples.images.shape, samples.images.dtype
    ((4, 8, 8, 1), dtype('uint8'))
    """
    run = run if isinstance(run, Run) else open_run(run)
    chosen = {"guidance.scale": guidance, "sampler.solver": solver, "sampler.steps": steps}
    given = {name: value for name, value in chosen.items() if value is not None} | changes
    sampler = load_sampler(run, changed(config or SampleConfig(), given), step, weak, execution)
    after_update = updates_as_progress(sampler)
    images = np.concatenate([sampler.images(indices, after_update) for indices in sampler.batches()])
    return Samples(images, sampler.labels, sampler.record)


def load_sampler(
    run: Run,
    config: SampleConfig,
    step: int | None = None,
    weak: Weak | None = None,
    execution: SampleExecution = EAGER,
) -> Sampler:
    """Load what draws `config` from a checkpoint; `ValueError` for what the run or the guidance cannot do."""
    count_updates(run.process, config.sampler)  # what the solver does not take is refused before anything is written
    model, step = network(run, step, config.dtype, execution, config.weights, config.ema)
    weights, worse, guide = [run.folder(step) / f"{config.weights}.safetensors"], None, None
    if config.ema is not None:
        weights = [folder / "training.safetensors" for folder in run.folders_until(step)]
    if weak is not None:
        worse, weak_step = weak_network(run, config, weak, execution)
        weights.append(weak.run.folder(weak_step) / "ema.safetensors")
        guide = {"run": weak.run.path.name, "step": weak_step}
    render, space = renderer(
        run.manifest.get("data", {}).get("latents"), run.spec.channels, config.autoencoder, run.device
    )
    labels = choose_labels(config, run.spec.num_classes)
    decoder = {"decoder": asdict(space)} if space else {}
    record = {**provenance(run, config, step), "weak": guide, **decoder}
    return Sampler(run, config, model, worse, render, labels, record, tuple(weights))


def weak_network(run: Run, config: SampleConfig, weak: Weak, execution: SampleExecution) -> tuple[Model, int]:
    """The network that guides `run`; `ValueError` where it would have no effect or predicts something else."""
    if config.guidance.scale == 1:
        raise ValueError("a weak run has no effect at guidance.scale 1; expected another scale, e.g. 2")
    for what, theirs, ours in (
        ("data", weak.run.spec, run.spec),
        ("process", weak.run.config.process, run.config.process),
    ):
        if theirs != ours:
            raise ValueError(f"weak run {str(weak.run.path)!r} has {what} {theirs}; expected that of the run, {ours}")
    return network(weak.run, weak.step, config.dtype, execution)


def choose_labels(config: SampleConfig, num_classes: int) -> Int64[np.ndarray, "N"]:
    """The class of each image; `ValueError` for a class that the run does not have."""
    if not num_classes:
        if config.labels not in ("balanced", "random"):
            raise ValueError(f"labels is {config.labels!r}, but the model is unconditional; expected no class")
        return np.full(config.num_images, -1, np.int64)
    if config.labels == "balanced":
        return np.arange(config.num_images, dtype=np.int64) % num_classes
    if config.labels == "random":
        rngs = [generator("label", config.seed, i) for i in range(config.num_images)]
        return np.array([int(torch.randint(num_classes, (), generator=rng)) for rng in rngs], np.int64)
    if not 0 <= int(config.labels) < num_classes:
        raise ValueError(
            f"labels is {config.labels!r}; expected balanced, random or a class from 0 to {num_classes - 1}"
        )
    return np.full(config.num_images, int(config.labels), np.int64)


def start_in_average(run: Run, step: int) -> float | None:
    """The share of the start that is still in the averaged weights of a step; None where both were imported."""
    return None if "imported" in run.manifest else float(run.config.optim.ema_decay**step)


def seeded_draw(seed: int, indices: Sequence[int], shape: tuple[int, ...], device: torch.device) -> Draw:
    """Standard normal draws of shape (len(indices), *shape): the k-th draw for image i depends on (seed, i, k) alone.

    Drawn on the CPU, so a seed means the same noise on every device; from page-locked memory, so that the host goes on
    while a GPU is still busy with the step before.
    """
    streams = [generator("sample", seed, index) for index in indices]

    def draw() -> Float[Tensor, "B C H W"]:
        noise = torch.stack([torch.randn(shape, generator=stream) for stream in streams])
        return noise.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else noise.to(device)

    return draw


def provenance(run: Run, config: SampleConfig, step: int) -> dict[str, Any]:
    """What of a run and a config decides the images."""
    row = asdict(config)
    row["sampler"]["solver"] = solver_name(run.process, config.sampler)
    if config.sampler.steps is None:  # what the default is today, so that it compares with the same number asked for
        row["sampler"]["steps"] = count_updates(run.process, config.sampler)
    del row["batch_size"]  # no influence on the images
    if config.ema is None:
        del row["ema"]
    del row["autoencoder"]  # where it lies; which one it is stands under `decoder`
    return {"run": run.path.name, "step": step, **row}
