"""Losses as a training loop says them: one number each, and whether they have risen for good."""

from statistics import median
from typing import Any

import torch
from torch import Tensor

LEVEL = 32
"""Losses that are looked at together."""


class LossLevels:
    """Losses, 32 at a time, against the 32 whose median is the lowest so far.

    How widely a loss spreads, over timesteps say, is what those 32 show: risen are losses half of which are above three
    times the largest of those, and that are no lower than the first 32 were.
    """

    def __init__(self) -> None:
        self._recent: list[float] = []
        self._levels: list[tuple[float, float]] = []
        """Median and largest of the first 32, and of the lowest."""

    def are_risen(self, loss: float) -> bool:
        """With this one, which is finite."""
        self._recent.append(loss)
        if len(self._recent) < LEVEL:
            return False
        level, most = median(self._recent), max(self._recent)
        self._recent.clear()
        first, lowest = self._levels or [(level, most)] * 2
        self._levels = [first, min(lowest, (level, most))]
        return lowest[1] > 0 and level > 3 * lowest[1] and level >= first[0]


def as_loss(loss: Any) -> Tensor | None:
    """One value (of several the mean), still on its device, apart from what was given; None for what is no number.

    A loop may go on writing into its own (a running mean, the output of a CUDA graph).
    """
    try:
        values = loss.detach() if isinstance(loss, Tensor) else torch.as_tensor(loss, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        return None
    if values.is_complex() or values.is_meta or not values.numel():
        return None
    exact = values if values.dtype is torch.float64 else values.float()
    return values.reshape(1).clone() if values.numel() == 1 else exact.mean().reshape(1)
