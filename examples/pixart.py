"""A small PixArt transformer of diffusers on images with classes, whose embedded labels are its text.

    cd examples
    adaln train digits --model pixart:small --process linear-velocity --scheme adaln-gaussian --steps 1000
    adaln choose digits --model pixart:small --process linear-velocity --budget 40runs

What a factory must be is docs/own-network.md.
"""

import torch
from diffusers import PixArtTransformer2DModel
from torch import nn

from adaln.specs import DataSpec

DIGITS = DataSpec(channels=1, height=8, width=8, num_classes=10)


class PixArtOnLabels(nn.Module):
    """`forward(x, t, y)` as adaln calls it, around the network of diffusers."""

    def __init__(self, spec: DataSpec, width: int, depth: int, num_heads: int, num_tokens: int = 4) -> None:
        super().__init__()
        self.num_tokens = num_tokens
        self.labels = nn.Embedding(spec.num_classes + 1, num_tokens * width)  # the last row: no class
        self.transformer = PixArtTransformer2DModel(
            num_attention_heads=num_heads,
            attention_head_dim=width // num_heads,
            cross_attention_dim=width,
            caption_channels=width,
            num_layers=depth,
            in_channels=spec.channels,
            out_channels=spec.channels,
            sample_size=spec.height,
            patch_size=2,
        )

    def forward(self, x: torch.Tensor, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        text = self.labels(y).unflatten(1, (self.num_tokens, -1))
        conditions = {"resolution": None, "aspect_ratio": None}
        # t is 0 at noise and 1 at data; PixArt's embedding is made for 0 to 1000
        output = self.transformer(x, encoder_hidden_states=text, timestep=1000 * t, added_cond_kwargs=conditions)
        return output.sample


def small(spec: DataSpec = DIGITS) -> nn.Module:
    """64 wide, 4 blocks: minutes on a laptop's CPU."""
    return PixArtOnLabels(spec, width=64, depth=4, num_heads=4)
