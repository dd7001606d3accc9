"""One forward pass of any network, watched operation by operation by hooks and a mode that are gone afterwards."""

# torch leaves its modes untyped.
# mypy: disallow-untyped-calls=False
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

Stack = tuple[str, ...]
"""Names of the modules that are running, the network itself ("") first."""
ARITHMETIC = {"add", "mul", "addcmul"}
"""Operations in which values are used; their place among these of the same module identifies them."""


class Place(NamedTuple):
    """One operation of a forward pass: the module that runs, the how many-th of its `ARITHMETIC`, and an operand."""

    module: str
    ordinal: int
    operand: int
    """Which argument is the value."""


def operation(func: Any) -> str:
    """Name of an operation, the same in place and not."""
    name = func.name() if callable(getattr(func, "name", None)) else str(func)
    return name.rpartition("::")[2].partition(".")[0].rstrip("_")


class Counted(TorchDispatchMode):
    """A forward pass of which the running modules and the places of operations are known."""

    supports_higher_order_operators = True

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # torch would import its compiler, which takes longer than the pass

    def __init__(self) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.ordinals: Counter[str] = Counter()

    def place(self, operand: int) -> Place:
        """Of the operation that runs now."""
        return Place(self.stack[-1], self.ordinals[self.stack[-1]], operand)

    def enter(self, name: str, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Before a module runs."""
        self.stack.append(name)

    def leave(self, name: str, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        """After a module ran; what is not None replaces its output."""
        self.stack.pop()

    def operate(self, name: str, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Run one operation."""
        return func(*args, **kwargs)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = operation(func)
        if name in ARITHMETIC and self.stack:
            self.ordinals[self.stack[-1]] += 1
        return self.operate(name, func, args, kwargs or {})


@torch.no_grad()
def run(model: nn.Module, inputs: Mapping[str, Any], mode: Counted) -> None:
    """One forward pass in evaluation mode; the hooks are gone and the training flags as before afterwards."""
    training = [module for module in model.modules() if module.training]
    with ExitStack() as stack:
        for module in training:
            stack.callback(setattr, module, "training", True)
        for name, module in model.named_modules():
            enter, leave = partial(mode.enter, name), partial(mode.leave, name)
            stack.enter_context(module.register_forward_pre_hook(enter, with_kwargs=True, prepend=True))
            stack.enter_context(module.register_forward_hook(leave))
        if "torch._dynamo" in sys.modules:  # what is compiled runs no operations that could be watched
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        stack.enter_context(mode)
        model.eval()(**inputs)


class Running(Counted):
    """Names of the modules that a forward pass calls, and the last of them that is a map with a matrix."""

    def __init__(self, model: nn.Module, inputs: Mapping[str, Any]) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.last_map = ""
        """A linear map or a convolution; "" where there is none."""
        run(model, inputs, self)

    def leave(self, name: str, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        super().leave(name, module, args, output)
        self.names.add(name)
        weight = getattr(module, "weight", None)
        if isinstance(weight, Tensor) and weight.ndim > 1 and not isinstance(module, nn.Embedding):
            self.last_map = name


def block_of(name: str) -> str:
    """The numbered module that holds a module or tensor, or ""."""
    match = re.match(r"(?:.*?\.)?\d+(?=\.|$)", name)
    return match[0] if match else ""


def is_matrix(module: nn.Module, output: Any) -> bool:
    """A linear layer, whatever its class, that gives rows of its weight."""
    weight = getattr(module, "weight", None)
    if not isinstance(weight, Tensor) or isinstance(module, nn.Embedding) or list(module.children()):
        return False
    return isinstance(output, Tensor) and weight.ndim == 2 and output.ndim > 0 and output.shape[-1] == weight.shape[0]


def tensors_of(tree: Any) -> Iterator[Tensor]:
    return (leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor))
