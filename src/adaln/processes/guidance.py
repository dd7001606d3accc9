"""Guidance: steering a sample by the difference between a better and a worse prediction."""

import torch
from torch import Tensor

from adaln.processes.config import Guidance
from adaln.types import Denoiser, Labels, Model

THREE = 3
"""Channels that DiT's sampler guides: published figures leave the fourth channel of its latents alone."""


def guided(
    model: Model, y: Labels | None, null_label: int | None, guidance: Guidance, *, weak: Model | None = None
) -> Denoiser:
    """A model with its labels and guidance bound, as the solvers take it.

    The worse prediction is the model's own for `null_label`, both in one forward of the doubled batch; or, with `weak`
    (autoguidance), that of a weaker model for the same labels. At scale 1 the model alone is called. Channels that are
    not guided are the better prediction's. Raises ValueError where scale is not 1 and there is nothing to guide by.
    Source: Ho and Salimans 2022; Kynkaanniemi et al. 2024 (interval); Karras et al. 2024 (autoguidance).
    """
    if guidance.scale == 1:
        return lambda x, t: model(x, t, y)
    if weak is not None:
        worse = weak
        return lambda x, t: _combine(model(x, t, y), worse(x, t, y), x, t, guidance)
    if y is None or null_label is None:
        raise ValueError(
            f"guidance scale is {guidance.scale}, expected 1: the model is unconditional (or give a weak model)"
        )
    labels = torch.cat([y, torch.full_like(y, null_label)])

    def denoiser(x: Tensor, t: Tensor) -> Tensor:
        better, worse = model(torch.cat([x, x]), torch.cat([t, t]), labels).chunk(2)
        return _combine(better, worse, x, t, guidance)

    return denoiser


def _combine(better: Tensor, worse: Tensor, x: Tensor, t: Tensor, guidance: Guidance) -> Tensor:
    count = x.shape[1] if guidance.channels == "all" else min(THREE, x.shape[1])
    steered = worse[:, :count] + guidance.scale * (better[:, :count] - worse[:, :count])
    if guidance.interval is not None:
        low, high = guidance.interval
        inside = ((t >= low) & (t <= high))[:, None, None, None]
        steered = torch.where(inside, steered, better[:, :count])
    return torch.cat([steered, better[:, count:]], 1)
