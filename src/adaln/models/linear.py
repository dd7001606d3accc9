"""The linear map, in float32 on the CPU by the fastest product that the processor has."""

# mypy: disable-error-code="no-any-return,no-untyped-call"
# torch types its operators and autograd functions as Any.

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

HAS_WIDE_PRODUCT = torch.backends.mkldnn.is_available() and torch.backends.cpu.get_cpu_capability() == "AVX512"


class Linear(nn.Linear):
    """`nn.Linear`; in float32 on a CPU with AVX-512, where torch multiplies by MKL, by oneDNN.

    The same product up to the order of its sums. On processors that are not Intel's MKL leaves half of the vector unit
    idle: oneDNN takes half of its time there (`adaln bench machine` measures both).
    """

    def forward(self, x: Float[Tensor, "*rest K"]) -> Float[Tensor, "*rest F"]:
        on_cpu = HAS_WIDE_PRODUCT and x.device.type == "cpu" and not torch.is_autocast_enabled("cpu")
        if on_cpu and x.dtype == self.weight.dtype == torch.float32:
            return WideProduct.apply(x, self.weight, self.bias)
        return F.linear(x, self.weight, self.bias)


class WideProduct(torch.autograd.Function):
    """x W^T + b; its derivatives are products of the same kind, so it has derivatives of every order."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return wide_product(x, weight, bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:2])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        gradient, wanted = gradients[0], ctx.needs_input_grad
        rows, inputs = (t.reshape(-1, t.shape[-1]) for t in (gradient, x))
        return (
            WideProduct.apply(gradient, weight.T, None) if wanted[0] else None,
            WideProduct.apply(rows.T, inputs.T, None) if wanted[1] else None,
            rows.sum(0) if wanted[2] else None,
        )


@torch.library.custom_op("adaln::wide_product", mutates_args=())
def wide_product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x W^T + b by oneDNN. An operator of its own, because torch.compile takes oneDNN's for one of inference only."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


@wide_product.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return x.new_empty(*x.shape[:-1], len(weight))
