"""Training on what `encode` made: images, or the moments of latents."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from adaln.data.autoencoder import LatentSpace
from adaln.data.config import DataConfig
from adaln.data.dataset import Dataset, Rows, spec_of
from adaln.data.shard_files import Index, files_beside, open_shards


class NoImages(Rows):
    """Stands where images would be, and says so when one is asked for."""

    def __init__(self, name: str, parts: tuple[np.ndarray, ...]) -> None:
        super().__init__(parts)
        self.name = name

    def gather(self, indices: Int64[np.ndarray, "B"]) -> np.ndarray:
        raise ValueError(f"{self.name}: holds latents, not images; give the images themselves as reference")

    def __array__(self, dtype: object = None, copy: bool | None = None) -> np.ndarray:
        return self.gather(np.zeros(0, np.int64))


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class LatentDataset(Dataset):
    """Posterior moments of an autoencoder. `images` cannot be read; `read` draws from the posterior."""

    moments: Rows
    """(N * flips, 2, C, h, w): mean and standard deviation; the mirror image of row i is row flips * i + 1."""
    space: LatentSpace
    index: Index
    digests: Rows
    """SHA-256 of each cropped picture with its label."""

    @property
    def content(self) -> Rows:
        """See `Dataset`: the pictures themselves are not here."""
        return self.digests

    def read(
        self, indices: Int64[np.ndarray, "B"], mirrored: Bool[np.ndarray, "B"], rngs: Iterable[torch.Generator]
    ) -> Float[Tensor, "B C h w"]:
        """Scaled draws from the posteriors at `indices`, a generator each: (mean + std * noise - shift) * scale."""
        mean, std = torch.from_numpy(self.moments[self.index.plan.flips * indices + mirrored]).float().unbind(1)
        noise = torch.stack([torch.randn(mean.shape[1:], generator=rng) for rng in rngs])
        return mean.addcmul_(std, noise).sub_(self.space.shift_factor).mul_(self.space.scaling_factor)

    def describe_latents(self) -> dict[str, Any]:
        """See `Dataset`."""
        statistics = {"channel_mean": list(self.index.channel_mean), "channel_std": list(self.index.channel_std)}
        return {"autoencoder": self.index.autoencoder, "space": asdict(self.space), **statistics}


def open_encoded(config: DataConfig) -> Dataset:
    """The set in a folder that `encode` made. Raises ValueError where it is not what the config asks for."""
    folder = Path(config.path)
    shards = open_shards(folder)
    index, plan = shards.index, shards.index.plan
    if config.size is not None and plan.image_shape[1:] != (config.size, config.size):
        got = "x".join(map(str, plan.image_shape[1:]))
        raise ValueError(
            f"{folder}: encoded at {got}, but size is {config.size}; encode again, or leave it None (--data.size None)"
        )
    if config.flip and plan.space and plan.flips == 1:
        raise ValueError(
            f"{folder}: encoded without mirror images; encode with flips or set flip to False (--data.no-flip)"
        )
    spec = spec_of(shards.rows.shape[-3:], plan.class_names, config.conditional)
    told = (index.skipped, (*index.passed_over, *files_beside(folder, index)))
    common = (shards.labels, plan.class_names, spec, index.fingerprint, config.flip, *told)
    name = folder.resolve().name
    if plan.space is None:
        return Dataset(name, shards.rows, *common)
    images = NoImages(name, shards.rows.parts)
    return LatentDataset(
        name, images, *common, moments=shards.rows, space=plan.space, index=index, digests=shards.digests
    )
