"""Seeds to images: sample i of a seed depends on (seed, i) alone, not on the batch it is drawn in."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from adaln.data import renderer
from adaln.files import write_atomically
from adaln.processes import Guidance, SamplerConfig, count_updates, guided, solve, solver_name
from adaln.rng import generator
from adaln.runs import Run
from adaln.types import Draw, Model

Progress = Callable[[int], None]
"""Called with the number of solver updates times images done since the last call."""


@dataclass(frozen=True, slots=True)
class SampleConfig:
    """What to sample from a run."""

    num_images: int = 1000
    """How many images."""
    seed: int = 0
    """Image i is a function of (seed, i) and its label."""
    labels: Literal["balanced", "random"] | int = "balanced"
    """Classes in turn, drawn uniformly by (seed, i), or one class index for all."""
    batch_size: int = 128
    """Images drawn together; changes the speed, not the images (up to rounding)."""
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    """Solver and its settings."""
    guidance: Guidance = field(default_factory=Guidance)
    """Classifier-free guidance."""
    autoencoder: str | None = None
    """Folder or hub id of what decodes latents; default: where the data was encoded with it."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Arithmetic of the network (autocast); weights, guidance and the solver's state stay float32."""

    def __post_init__(self) -> None:
        for name in ("num_images", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected an integer >= 1")


class Weak(NamedTuple):
    """Whose worse prediction guides: autoguidance by a smaller, or a less trained, run."""

    run: Run
    step: int | None = None
    """Checkpoint; None: the newest."""


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """Images in ADM's layout, and what they came from."""

    images: UInt8[np.ndarray, "N H W C"]
    labels: Int64[np.ndarray, "N"]
    """-1 throughout for an unconditional model."""
    provenance: dict[str, Any]


def sample(
    run: Run,
    config: SampleConfig,
    step: int | None = None,
    progress: Progress | None = None,
    weak: Weak | None = None,
) -> Samples:
    """Images from the averaged weights of a run's checkpoint (the newest by default), guided by `weak` if given."""
    model, step = network(run, step, config.dtype)
    worse, weak_step = (None, None) if weak is None else weak_network(run, config, weak)
    spec, process = run.spec, run.process
    rendering = renderer(run.manifest.get("data", {}).get("latents"), spec.channels, config.autoencoder, run.device)
    labels = choose_labels(config, spec.num_classes)
    images = []
    for start in range(0, config.num_images, config.batch_size):
        indices = range(start, min(start + config.batch_size, config.num_images))
        y = torch.from_numpy(labels[start : indices.stop]).to(run.device) if spec.num_classes else None
        draw = seeded_draw(config.seed, indices, (spec.channels, spec.height, spec.width), run.device)
        x = draw()
        denoiser = guided(model, y, run.null_label, config.guidance, weak=worse)
        for x in solve(process, denoiser, x, draw, config.sampler):  # noqa: B007, B020
            if progress:
                progress(len(indices))
        images.append(rendering.render(x).permute(0, 2, 3, 1).cpu().numpy())
    guide = None if weak is None else {"run": weak.run.path.name, "step": weak_step}
    decoder = {"decoder": asdict(rendering.space)} if rendering.space else {}
    return Samples(np.concatenate(images), labels, {**provenance(run, config, step), "weak": guide, **decoder})


def network(run: Run, step: int | None, dtype: str) -> tuple[Model, int]:
    """The averaged network of a checkpoint, computing in `dtype` and answering in its input's, and its step."""
    model, step = run.averaged_model(step)

    def rounded(x: Tensor, t: Tensor, y: Tensor | None) -> Tensor:
        with torch.autocast(x.device.type, torch.bfloat16):
            output: Tensor = model(x, t, y)
        return output.to(x.dtype)

    return (rounded if dtype == "bfloat16" else model), step


def weak_network(run: Run, config: SampleConfig, weak: Weak) -> tuple[Model, int]:
    """The network that guides `run`; `ValueError` where it would have no effect or predicts something else."""
    if config.guidance.scale == 1:
        raise ValueError("a weak run has no effect at guidance.scale 1; expected another scale, e.g. 2")
    for what, theirs, ours in (
        ("data", weak.run.spec, run.spec),
        ("process", weak.run.config.process, run.config.process),
    ):
        if theirs != ours:
            raise ValueError(f"weak run {str(weak.run.path)!r} has {what} {theirs}; expected that of the run, {ours}")
    return network(weak.run, weak.step, config.dtype)


def num_updates(run: Run, config: SampleConfig) -> int | None:
    """Total of what `progress` is told; None for an adaptive solver."""
    updates = count_updates(run.process, config.sampler)
    return None if updates is None else updates * config.num_images


def choose_labels(config: SampleConfig, num_classes: int) -> Int64[np.ndarray, "N"]:
    """The class of each image; `ValueError` for a class that the run does not have."""
    if not num_classes:
        if config.labels not in ("balanced", "random"):
            raise ValueError(f"labels is {config.labels!r}, but the model is unconditional; expected no class")
        return np.full(config.num_images, -1, np.int64)
    if config.labels == "balanced":
        return np.arange(config.num_images, dtype=np.int64) % num_classes
    if config.labels == "random":
        drawn = [
            int(torch.randint(num_classes, (), generator=generator("label", config.seed, i)))
            for i in range(config.num_images)
        ]
        return np.array(drawn, np.int64)
    if not 0 <= int(config.labels) < num_classes:
        raise ValueError(
            f"labels is {config.labels!r}; expected balanced, random or a class from 0 to {num_classes - 1}"
        )
    return np.full(config.num_images, int(config.labels), np.int64)


def seeded_draw(seed: int, indices: Sequence[int], shape: tuple[int, ...], device: torch.device) -> Draw:
    """Standard normal draws of shape (len(indices), *shape): the k-th draw for image i depends on (seed, i, k) alone.

    Drawn on the CPU, so a seed means the same noise on every device.
    """
    streams = [generator("sample", seed, index) for index in indices]

    def draw() -> Float[Tensor, "B C H W"]:
        return torch.stack([torch.randn(shape, generator=stream) for stream in streams]).to(device)

    return draw


def provenance(run: Run, config: SampleConfig, step: int) -> dict[str, Any]:
    """All that decides the images, for the file beside them and for every score made from them."""
    row = asdict(config)
    row["sampler"]["solver"] = solver_name(run.process, config.sampler)
    if config.sampler.steps is None:  # what the default is today, so that it compares with the same number asked for
        row["sampler"]["steps"] = count_updates(run.process, config.sampler)
    del row["batch_size"]  # no influence on the images
    del row["autoencoder"]  # where it lies; which one it is stands under `decoder`
    return {"run": run.path.name, "step": step, "weights": "ema", **row}


def save_samples(samples: Samples, path: Path) -> None:
    """ADM's npz (`arr_0` uint8 NHWC, `arr_1` labels) with its provenance beside it, both written atomically."""
    buffer = BytesIO()
    np.savez(buffer, arr_0=samples.images, arr_1=samples.labels)
    write_atomically(path, buffer.getvalue())
    write_atomically(path.with_suffix(".json"), json.dumps(samples.provenance, indent=1, sort_keys=True) + "\n")
