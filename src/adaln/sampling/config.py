"""What to draw: how many images, of which classes, by which solver."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from jaxtyping import Int64

from adaln.execution import Precision
from adaln.processes import Guidance, SamplerConfig
from adaln.rng import generator


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
    dtype: Precision = "float32"
    """Of the network's matrix products: tf32 needs CUDA, bfloat16 is autocast; weights, guidance and the solver's state
    stay float32."""

    def __post_init__(self) -> None:
        for name in ("num_images", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected an integer >= 1")


def choose_labels(config: SampleConfig, num_classes: int) -> Int64[np.ndarray, "N"]:
    """The class of each image; `ValueError` for a class that the run does not have."""
    if not num_classes:
        if config.labels not in ("balanced", "random"):
            raise ValueError(f"labels is {config.labels!r}, but the model is unconditional; expected no class")
        return np.full(config.num_images, -1, np.int64)
    if config.labels == "balanced":
        return np.arange(config.num_images, dtype=np.int64) % num_classes
    if config.labels == "random":
        labels = [
            int(torch.randint(num_classes, (), generator=generator("label", config.seed, i)))
            for i in range(config.num_images)
        ]
        return np.array(labels, np.int64)
    if not 0 <= int(config.labels) < num_classes:
        raise ValueError(
            f"labels is {config.labels!r}; expected balanced, random or a class from 0 to {num_classes - 1}"
        )
    return np.full(config.num_images, int(config.labels), np.int64)
