"""From what a process draws to images: pixels at once, latents through the autoencoder that they belong to."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from adaln.data.autoencoder import Autoencoder, LatentSpace, check_same, open_autoencoder
from adaln.data.dataset import Dataset
from adaln.data.latents import Latents
from adaln.data.legacy import FixedLatents
from adaln.data.pixels import to_uint8

AT_ONCE = 16
"""Latents that are decoded together: 512-pixel images take a few GB."""


@dataclass(frozen=True, slots=True)
class Renderer:
    """How the samples of a run become images."""

    render: Callable[[Float[Tensor, "B C h w"]], UInt8[Tensor, "B K H W"]]
    space: LatentSpace | None
    """Whose decoder it is; None for pixels."""


def describe_latents(dataset: Dataset) -> dict[str, Any] | None:
    """What a run must keep of its latents to decode its samples without the data; None for pixels."""
    if isinstance(dataset, Latents):
        statistics = {"channel_mean": list(dataset.channel_mean), "channel_std": list(dataset.channel_std)}
        return {"autoencoder": dataset.autoencoder, "space": asdict(dataset.space), **statistics}
    if isinstance(dataset, FixedLatents):
        return {
            "autoencoder": None,
            "space": None,
            "is_normalised": bool((dataset.scale != 1).any() or dataset.shift.any()),
        }
    return None


def renderer(latents: Mapping[str, Any] | None, channels: int, path: str | None, device: torch.device) -> Renderer:
    """How to render samples of `channels` channels, drawn by a run that noted `latents` (`describe_latents`).

    `path`: folder or hub id of the autoencoder; None: where the data was encoded with it. Raises ValueError where that
    is not the autoencoder that made the latents, or where nobody knows which one did.
    """
    if path is None and not latents and channels in (1, 3):
        return Renderer(to_uint8, None)
    if latents and latents.get("is_normalised"):
        raise ValueError("the run learned latents normalised by channel statistics, which no AutoencoderKL decodes")
    path = path or (latents["autoencoder"] if latents else None)
    if path is None:
        raise ValueError(f"samples are latents of {channels} channels, of an autoencoder that is not recorded; name it")
    autoencoder = open_autoencoder(path, device)
    space = LatentSpace(**latents["space"]) if latents and latents["space"] else autoencoder.space
    check_same(space, autoencoder.space)
    if channels != autoencoder.latent_channels:
        raise ValueError(f"samples have {channels} channels; {path!r} decodes {autoencoder.latent_channels}")
    return Renderer(lambda z: decode_in_parts(autoencoder, z, space), space)


def decode_in_parts(
    autoencoder: Autoencoder, z: Float[Tensor, "B C h w"], space: LatentSpace
) -> UInt8[Tensor, "B K H W"]:
    """The images of scaled latents, some at a time."""
    return torch.cat([autoencoder.decode(part, space) for part in torch.split(z, AT_ONCE)])
