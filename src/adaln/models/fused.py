"""A block of a small DiT as one step of autograd, in compiled loops.

The same function as `DiTBlock.forward`, up to rounding. Of a small block torch spends more time between the products
than in them: on its calls, on passes over memory, and on a tanh.
"""

# mypy: disable-error-code="no-any-return,no-untyped-call"
# torch types autograd functions as Any.

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.module import _has_any_global_hook

from adaln.kernels import LANES, MOST, call, have_kernels, size
from adaln.types import Tokens

SMALL = 1 << 16
"""Values of the tokens up to which the loops, which one thread does, are no slower than torch's with several."""


def is_small(x: Tokens, num_heads: int, hidden: nn.Linear) -> bool:
    """Whether the loops are for these tokens and weights: float32 on the CPU, short sequences, narrow heads."""
    fits = type(x) is Tensor and all(
        one.device.type == "cpu" and one.dtype == torch.float32 for one in (x, hidden.weight)
    )
    if not fits or torch.is_autocast_enabled("cpu"):
        return False
    width = x.shape[-1]
    can = width % LANES == hidden.out_features % LANES == 0 and x.shape[-2] <= MOST and width // num_heads <= MOST
    return can and (torch.get_num_threads() == 1 or x.numel() <= SMALL) and have_kernels()


def is_watched(modules: Iterable[nn.Module]) -> bool:
    """Whether hooks wait for what some of these modules compute."""
    return bool(_has_any_global_hook()) or any(
        one._forward_hooks or one._forward_pre_hooks or one._backward_hooks or one._backward_pre_hooks
        for one in modules
    )


def fused_block(
    x: Tokens, c: Float[Tensor, "B 1 D"], num_heads: int, weights: Sequence[Tensor]
) -> Float[Tensor, "B N D"]:
    """Weights and biases of the modulation, of qkv, of the projection, and of the MLP's two maps, in this order."""
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (x, c, *weights)):
        return FusedBlock.apply(x, c, num_heads, *weights)
    return inferred(x, c, num_heads, weights)


def inferred(x: Tokens, c: Float[Tensor, "B 1 D"], num_heads: int, weights: Sequence[Tensor]) -> Tokens:
    """The block's output without derivatives."""
    out, sizes = x.clone(memory_format=torch.contiguous_format), (*x.shape, num_heads, len(weights[6]))
    room = x.new_empty(size("inference_room", *sizes))
    call("infer", out, c.contiguous(), *(weight.contiguous() for weight in weights), room, *sizes)
    return out


class FusedBlock(torch.autograd.Function):
    """The block with its first derivatives."""

    @staticmethod
    def forward(ctx: Any, x: Tokens, c: Tensor, num_heads: int, *weights: Tensor) -> Tensor:
        x, c, weights = x.contiguous(), c.contiguous(), tuple(weight.contiguous() for weight in weights)
        ctx.sizes, out = (*x.shape, num_heads, len(weights[6])), torch.empty_like(x)
        memory = x.new_empty(size("block_keeps", *ctx.sizes))
        call("block", x, c, *weights, memory, out, *ctx.sizes)
        ctx.save_for_backward(memory, x, c, *weights)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        memory, x, c, *weights = ctx.saved_tensors
        b, n, d, _, hidden = ctx.sizes
        room = x.new_empty(b * n * (6 * d + hidden) + 7 * b * d)
        dx, dc, *of_weights = (torch.empty_like(tensor) for tensor in (x, c, *weights))
        given = gradient.contiguous(), x, c, *weights[::2], memory, room
        call("block_backward", *given, dx, dc, *of_weights, *ctx.sizes)
        return dx, dc, None, *of_weights
