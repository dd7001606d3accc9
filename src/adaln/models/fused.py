"""A small DiT as one step of autograd, in compiled loops.

The same function as `DiT.forward`, up to rounding. Of a small network torch spends more time between the products than
in them: on its calls, on passes over memory, and on a tanh.
"""

# mypy: disable-error-code="no-any-return,no-untyped-call"
# torch types autograd functions as Any.

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch._utils import _unflatten_dense_tensors
from torch.autograd.function import once_differentiable
from torch.nn.modules.module import _has_any_global_hook

from adaln.kernels import LANES, MOST, call, fit, have_kernels
from adaln.types import Labels

SMALL = 1 << 16
"""Values of the tokens up to which the loops, which one thread does, are no slower than torch's with several."""


class Sizes(NamedTuple):
    """As `sizes` of network.c has them."""

    batch: int
    tokens: int
    width: int
    heads: int
    hidden: int
    depth: int
    patch: int
    head: int
    features: int

    @property
    def fit(self) -> bool:
        """Whether the loops are for them, short sequences and narrow heads, and no slower than several threads."""
        narrow = self.width // self.heads <= MOST and self.width % LANES == self.hidden % LANES == 0
        fast = torch.get_num_threads() == 1 or self.batch * self.tokens * self.width <= SMALL
        return narrow and fast and self.tokens <= MOST and self.batch > 0


def have_loops(x: Tensor, *weights: Tensor) -> bool:
    """Whether the loops are for these tensors, and derivatives are asked for by weights only."""
    wants = torch.is_grad_enabled() and x.requires_grad
    is_float32 = x.dtype == torch.float32 and fit(weights)
    return is_float32 and not wants and not torch.is_autocast_enabled("cpu") and have_kernels()


def is_watched(modules: Iterable[nn.Module]) -> bool:
    """Whether hooks wait for what some of these modules compute."""
    return bool(_has_any_global_hook()) or any(
        one._forward_hooks or one._forward_pre_hooks or one._backward_hooks or one._backward_pre_hooks
        for one in modules
    )


class Given(NamedTuple):
    """What the network is computed from, besides weights."""

    patches: Float[Tensor, "B N P"]
    features: Float[Tensor, "B Q"]
    labels: Labels | None
    positions: Float[Tensor, "1 N D"]


def fused_network(given: Given, sizes: Sizes, weights: Sequence[Tensor]) -> Float[Tensor, "B N O"]:
    """The patches of the output; weights and biases in the order of `maps` in network.c."""
    given = Given(*(None if one is None else one.contiguous() for one in given))  # type: ignore[arg-type]
    if torch.is_grad_enabled() and any(one.requires_grad for one in weights):
        return FusedNetwork.apply(given, sizes, *weights)
    return computed(given, sizes, weights, keeps=False)[0]


def computed(given: Given, sizes: Sizes, weights: Sequence[Tensor], keeps: bool) -> tuple[Tensor, Tensor]:
    """The output, and what is kept for derivatives."""
    out = given.patches.new_empty(sizes.batch, sizes.tokens, sizes.head)
    memory = out.new_empty(values("network_memory", sizes, keeps))
    call("network", *given, weights, memory, out, sizes, keeps)
    return out, memory


@lru_cache(64)
def values(name: str, *given: Any) -> int:
    """How many a function of network.c asks for."""
    return call(name, *given)


class FusedNetwork(torch.autograd.Function):
    """The network with its first derivatives."""

    @staticmethod
    def forward(ctx: Any, given: Given, sizes: Sizes, *weights: Tensor) -> Tensor:
        out, memory = computed(given, sizes, weights, keeps=True)
        ctx.sizes = sizes
        ctx.save_for_backward(*given, memory, *weights)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        patches, features, labels, _, memory, *weights = ctx.saved_tensors
        gradients = _unflatten_dense_tensors(memory.new_zeros(sum(map(Tensor.numel, weights))), weights)
        room = memory.new_empty(values("network_room", ctx.sizes))
        given = gradient.contiguous(), patches, features, labels
        call("network_backward", *given, weights, memory, room, gradients, ctx.sizes)
        return None, None, *gradients
