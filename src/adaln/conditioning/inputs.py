"""Inputs made by us for one forward pass of a network, so that it can be watched without anyone's data."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from adaln.rng import generator


class InputDraw:
    """Draws for the inputs of one forward pass, by a seed alone: a batch of 4, images of 4 x 4 tokens, 4 of text."""

    batch_size = 4
    frames = 2
    tokens_per_side = 4
    audio_tokens = 6
    text_tokens = 4

    def __init__(self, seed: int) -> None:
        self.rng = generator("standard inputs", seed)

    def normal(self, *shape: int) -> Tensor:
        """A batch of standard normal values."""
        return torch.randn(self.batch_size, *shape, generator=self.rng)

    def image(self, config: Any) -> Tensor:
        """Latents of the channels and patches of a network's config."""
        side = self.tokens_per_side * config.patch_size
        return self.normal(config.in_channels, side, side)

    def video(self, channels: int, patch_size: Sequence[int]) -> Tensor:
        """Latents (B, C, T, H, W) of `frames` frames of tokens."""
        deep, high, wide = patch_size
        return self.normal(channels, self.frames * deep, self.tokens_per_side * high, self.tokens_per_side * wide)

    def positions(self) -> Tensor:
        """(0, row, column) of every token of an image."""
        side = torch.arange(self.tokens_per_side)
        return torch.cartesian_prod(torch.zeros(1, dtype=torch.long), side, side)

    def text(self, width: int) -> Tensor:
        """Encoded text."""
        return self.normal(self.text_tokens, width)

    def times(self, last: float) -> Tensor:
        """From early to late, 0 and `last` left out."""
        return last * (torch.arange(self.batch_size) + 1) / (self.batch_size + 1)

    def labels(self, num_classes: int, *shape: int) -> Tensor:
        """Classes, or codes of a vocabulary."""
        return torch.randint(num_classes, (self.batch_size, *shape), generator=self.rng)


MakeInputs = Callable[[Any, InputDraw], dict[str, Any]]
"""(the network's config, draws) -> keyword arguments of its forward pass; the network, where it has no config."""
