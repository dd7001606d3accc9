"""What every network of ours is: a config that makes it, and a module that says what data it takes.

A model is one file: a config class with these methods, and the network that it makes.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from adaln.types import DataSpec


class Network(nn.Module, ABC):
    """(noisy latents, times, labels) -> prediction."""

    spec: DataSpec
    num_labels: int
    """Rows of the label table; 0: the network is unconditional."""

    @abstractmethod
    def reset(self, rng: torch.Generator) -> None:
        """Fresh weights from `rng`, and what is fixed."""

    def fixed(self) -> dict[str, Tensor]:
        """What the state dict holds beside the weights: tensors that follow from the sizes and are never learned."""
        return {}


@dataclass(frozen=True)
class ModelConfig(ABC):
    """The sizes and choices of a network."""

    hidden_size: int

    is_isotropic: ClassVar[bool]
    """Whether all blocks are alike, so that one width and one depth say it all."""

    @property
    @abstractmethod
    def class_dropout_prob(self) -> float:
        """How often training replaces a label by the null class; 0: there is no null class, hence no guidance."""

    @property
    @abstractmethod
    def outputs_per_channel(self) -> int:
        """Output channels per data channel: 2 if a variance is returned, else 1."""

    @abstractmethod
    def network(self, spec: DataSpec) -> Network:
        """The network for this data, as its constructors leave it."""

    @abstractmethod
    def resized(
        self, *, hidden_size: int | None = None, depth: int | None = None, num_heads: int | None = None
    ) -> "ModelConfig":
        """The same at other sizes; `depth` is the number of blocks wherever blocks repeat."""

    @abstractmethod
    def flops(self, spec: DataSpec) -> int:
        """Floating-point operations of a forward pass, per sample."""

    @abstractmethod
    def describe(self) -> str:
        """The network by its sizes, in words that follow "is"."""

    def data_size(self, tensors: Mapping[str, Tensor]) -> tuple[int, int] | None:
        """Height and width of the data that weights are for, where they tell."""
        return None


def num_labels(spec: DataSpec, class_dropout_prob: float) -> int:
    """Rows of a label table: the classes, and one for the null class if labels are ever dropped."""
    return spec.num_classes + 1 if spec.num_classes and class_dropout_prob > 0 else spec.num_classes


def check_sizes(class_dropout_prob: float, **counts: int) -> None:
    """Raise one ValueError for a configuration that is no network at all."""
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"got {name} {count}, expected at least 1")
    if not 0 <= class_dropout_prob <= 1:
        raise ValueError(f"got class_dropout_prob {class_dropout_prob}, expected 0..1")


def check_inputs(x: Tensor, t: Tensor, y: Tensor | None, spec: DataSpec, num_labels: int) -> None:
    """Raise one ValueError for inputs that the network was not built for.

    Label values are read on the CPU only: elsewhere the look would make the host wait for the device.
    """
    expected = (spec.channels, spec.height, spec.width)
    if x.shape[1:] != expected:
        raise ValueError(f"got x of C, H, W = {tuple(x.shape[1:])}, expected {expected}: the network was built for it")
    for name, vector in (("t", t), ("y", y)):
        if vector is not None and vector.shape != x.shape[:1]:
            raise ValueError(f"got {name} of shape {tuple(vector.shape)}, expected ({len(x)},): one per sample")
    if y is None and num_labels:
        raise ValueError(f"got no labels, expected y in 0..{num_labels - 1}: the network is class-conditional")
    if y is not None and not num_labels:
        raise ValueError("got labels, expected y=None: the network is unconditional (num_classes=0)")
    if y is not None and y.device.type == "cpu" and not torch.compiler.is_compiling():
        low, high = (int(bound) for bound in y.aminmax())
        if low < 0 or high >= num_labels:
            raise ValueError(f"got labels in {low}..{high}, expected 0..{num_labels - 1}")


@torch.no_grad()
def batch_flops(config: ModelConfig, spec: DataSpec, batch_size: int) -> int:
    """Floating-point operations of a forward pass over a batch, counted without computing it."""
    with torch.device("meta"):
        model = config.network(spec)
        x, t = torch.empty(batch_size, spec.channels, spec.height, spec.width), torch.empty(batch_size)
        y = torch.empty(batch_size, dtype=torch.long) if model.num_labels else None
    with FlopCounterMode(display=False) as counter:
        model(x, t, y)
    return int(counter.get_total_flops())
