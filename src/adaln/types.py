"""The axis legend and the few words that all rooms share.

Axes: B batch, N tokens, D width, C channels, H height, W width in space, F features.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from adaln.specs import DataSpec as DataSpec
from adaln.specs import ProcessConfig as ProcessConfig

Latents = Float[Tensor, "B C H W"]
"""What a process diffuses: autoencoder latents, or pixels in [-1, 1]."""
Tokens = Float[Tensor, "B N D"]
Times = Float[Tensor, "B"] | Int[Tensor, "B"]
"""Integer steps 0..T-1 (Gaussian processes, 0 = clean) or reals in [0, 1] (interpolants, 1 = clean)."""
Labels = Int[Tensor, "B"]
"""Class indices; the null class of classifier-free guidance is `num_classes`."""


@runtime_checkable
class Model(Protocol):
    """A network: (noisy latents, times, labels) -> prediction with the latents' H and W (and 1 or 2 times their C)."""

    def __call__(self, x: Latents, t: Times, y: Labels | None) -> Float[Tensor, "B Cout H W"]: ...


Denoiser = Callable[[Tensor, Tensor], Tensor]
"""A model with its labels and guidance bound: (x_t, t) -> prediction. What solvers see."""
Draw = Callable[[], Tensor]
"""The next standard normal draw of the state's shape; what makes a solver stochastic yet replayable."""


@runtime_checkable
class Process(Protocol):
    """How data turns into noise, what the network learns of it, and how noise turns back into data."""

    solver: str
    """Name of the solver that serves it if none is asked for."""

    def draw(self, shape: Sequence[int], rng: torch.Generator) -> tuple[Times, Latents]:
        """Training times and noise for latents of `shape`, on the generator's device."""
        ...

    def equidistant(self, count: int) -> Times:
        """The middles of `count` equal parts of the interval of training times, on the CPU."""
        ...

    def loss(self, model: Model, x: Latents, y: Labels | None, t: Times, noise: Latents) -> Float[Tensor, "B"]:
        """Loss per sample at those times, with that noise."""
        ...


@runtime_checkable
class Hook(Protocol):
    """Called once per step, after backward and before the optimiser: `hook(step, model)`."""

    def __call__(self, step: int, model: nn.Module) -> None: ...


OnLog = Callable[[int, Mapping[str, float]], None]
"""Called with a step and what was logged of it: loss, grad_norm and, where it is not constant, lr."""


class NonFinite(ValueError):
    """A loss, a gradient, weights or images are not finite; the message names the first that went wrong."""


def rows_axis(shape: Sequence[int]) -> int:
    """The axis that a site's rows count: leading dimensions of 1 are passed over.

    >>> rows_axis((1, 6, 8)), rows_axis((48, 8)), rows_axis((1, 8))
    (1, 0, 0)
    """
    if len(shape) < 3:
        return 0
    return next((axis for axis, size in enumerate(shape[:-2]) if size != 1), len(shape) - 2)


def as_rows(tensor: Tensor) -> Tensor:
    """A view whose first dimension is what a site's rows count, `rows_axis`.

    (k, D) of a table (1, k, D); a matrix, and a flat table (k * D,) by its elements, as they are; a scalar is one row.
    """
    axis = rows_axis(tensor.shape)
    return tensor[(0,) * axis] if axis else tensor if tensor.ndim else tensor.reshape(1)
