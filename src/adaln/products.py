"""Products of linear maps in float32 on the CPU, by the fastest that the processor has."""

# mypy: disable-error-code="no-any-return,no-untyped-call"
# torch types its operators and autograd functions as Any.

import platform
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn


def is_intel() -> bool:
    """Whether the processor is of MKL's own maker."""
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return "Intel" in platform.processor()
    with info.open(encoding="utf-8") as lines:
        return "GenuineIntel" in lines.read(256)  # the maker stands in the second line of what may be thousands


HAS_WIDE_PRODUCT = torch.backends.mkldnn.is_available() and torch.backends.cpu.get_cpu_capability() == "AVX512"
"""Whether oneDNN multiplies with all of AVX-512 here."""
IS_WIDER = HAS_WIDE_PRODUCT and not is_intel()
"""Whether MKL, torch's choice, does not: on processors of other makers it leaves half of the vector unit idle."""
SMALLEST = 1 << 24
"""Multiply-adds below which the longer way to oneDNN costs more than it saves."""


def widen_products(model: nn.Module) -> None:
    """Let every `nn.Linear` of a network multiply by oneDNN where that is faster, in place.

    It stays an `nn.Linear` with its parameters, their names and its hooks. On processors on which torch's choice is
    the fastest, nothing happens.
    """
    for module in model.modules() if IS_WIDER else ():
        if type(module) is nn.Linear:
            module.__class__ = WideLinear


class WideLinear(nn.Linear):
    """`nn.Linear`, in float32 on a CPU by oneDNN.

    The same product up to the order of its sums. oneDNN takes half of MKL's time on a CPU with AVX-512 that is not
    Intel's, and more than it on Intel's own (`adaln bench machine` measures both). Small products stay with torch.
    """

    def forward(self, x: Float[Tensor, "*rest K"]) -> Float[Tensor, "*rest F"]:
        on_cpu = x.device.type == "cpu" and not torch.is_autocast_enabled("cpu")
        if on_cpu and x.dtype == self.weight.dtype == torch.float32 and x.numel() * self.out_features >= SMALLEST:
            return WideProduct.apply(x, self.weight, self.bias)
        return super().forward(x)


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


def wide_product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x W^T + b by oneDNN, without derivatives."""
    if torch.compiler.is_compiling():
        return compiled_wide_product(x, weight, bias)
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


def has_gelu_product(x: Float[Tensor, "*rest K"], linear: nn.Linear) -> bool:
    """Whether `gelu_of_product` serves here: float32 on a CPU with AVX-512, nothing to differentiate nor to compile."""
    plain = not (torch.is_grad_enabled() or torch.is_autocast_enabled("cpu") or torch.compiler.is_compiling())
    return HAS_WIDE_PRODUCT and plain and x.device.type == "cpu" and x.dtype == linear.weight.dtype == torch.float32


def gelu_of_product(x: Float[Tensor, "*rest K"], linear: nn.Linear) -> Float[Tensor, "*rest F"]:
    """GELU in its tanh form of x W^T + b, by oneDNN in one pass: a third of the time of torch's GELU by itself."""
    return torch.ops.mkldnn._linear_pointwise(x, linear.weight, linear.bias, "gelu", [], "tanh")


@torch.library.custom_op("adaln::wide_product", mutates_args=())
def compiled_wide_product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The same as an operator that torch.compile leaves alone: it takes oneDNN's for one of inference only."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


@compiled_wide_product.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return x.new_empty(*x.shape[:-1], len(weight))
