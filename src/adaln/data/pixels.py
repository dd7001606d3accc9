"""The one place where stored bytes become what a network sees, and back."""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor


def to_model_range(pixels: UInt8[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Bytes 0..255 as float32 in [-1, 1]: `v / 127.5 - 1`."""
    return pixels.to(torch.float32).div_(127.5).sub_(1.0)


def to_uint8(x: Float[Tensor, "*shape"]) -> UInt8[Tensor, "*shape"]:
    """Samples in [-1, 1] as bytes: `clamp(127.5 x + 128, 0, 255)`, truncated.

    The exact inverse of `to_model_range` (which lands on v + 0.5 before truncation). NaN becomes 0.

    Source: the sampling script of Peebles & Xie, "Scalable Diffusion Models with Transformers" (2023).
    """
    return (127.5 * x + 128.0).nan_to_num(0.0).clamp(0.0, 255.0).to(torch.uint8)
