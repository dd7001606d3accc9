"""DiT-LLaMA and SiT-LLaMA: DiT with rotary positions on q and k and a SwiGLU MLP; its norms stay LayerNorm.

The released weights store `final_layer` before `blocks`, which only matters to optimiser states matched by index.

Source: Chu et al., "VisionLLaMA: A Unified LLaMA Backbone for Vision Tasks" (arXiv 2403.00522).
"""

# mypy: disable-error-code="no-any-return,no-untyped-call"
# torch types the call of a module as Any and leaves `unflatten` untyped.

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import nn

from adaln.models.dit import TransformerConfig
from adaln.types import Tokens


class SwiGLU(nn.Module):
    """down(SiLU(c_fc1 x) * c_fc2 x), without biases."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.c_fc1 = nn.Linear(dim, hidden, bias=False)
        self.c_fc2 = nn.Linear(dim, hidden, bias=False)
        self.c_proj = nn.Linear(hidden, dim, bias=False)

    def forward(self, x: Tokens) -> Tokens:
        return self.c_proj(F.silu(self.c_fc1(x)) * self.c_fc2(x))


def swiglu_width(dim: int) -> int:
    """Two thirds of 4 D, rounded up to a multiple of 256.

    >>> [swiglu_width(dim) for dim in (384, 768, 1024, 1152)]
    [1024, 2048, 2816, 3072]
    """
    return -(8 * dim // 3 // -256) * 256


@dataclass(frozen=True)
class LLaMAConfig(TransformerConfig):
    """DiT-LLaMA, or SiT-LLaMA where `drop_variance` is set."""

    rotary: ClassVar[bool] = True

    @property
    def family(self) -> str:
        return "DiT-LLaMA"

    def feed_forward(self) -> nn.Module:
        return SwiGLU(self.hidden_size, swiglu_width(self.hidden_size))
