"""What every network of ours is: a config that makes it, and a module that says what data it takes and how it starts.

A model is one file: a config class with these methods, and the network that it makes. How every tensor of a fresh
network starts is a table of name patterns, of which the first match wins. Whatever the draws, a fresh network outputs
exactly 0 and its blocks are the identity (`shared` modulation apart).
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from adaln.types import DataSpec

Fill = Callable[[Tensor, torch.Generator], object]
Starts = tuple[tuple[str, Fill], ...]


def zeros(tensor: Tensor, rng: torch.Generator) -> None:
    tensor.zero_()


def normal(std: float) -> Fill:
    """Normal(0, std)."""
    return lambda tensor, rng: tensor.normal_(std=std, generator=rng)


def table_normal(tensor: Tensor, rng: torch.Generator) -> None:
    """Normal(0, 1 / sqrt(D)) over a (6, D) table. Source: PixArt-alpha."""
    tensor.normal_(std=tensor.shape[-1] ** -0.5, generator=rng)


def xavier(tensor: Tensor, rng: torch.Generator) -> None:
    """Uniform within sqrt(6 / (fan_in + fan_out)); the fans of a convolution count its taps, in both directions."""
    nn.init.xavier_uniform_(tensor, generator=rng)


def xavier_flat(tensor: Tensor, rng: torch.Generator) -> None:
    """`xavier` of a convolution read as the linear map (D, C * k * k): its fan_out is D, without the taps."""
    nn.init.xavier_uniform_(tensor.flatten(1), generator=rng)


STARTS: Starts = (
    ("*.bias", zeros),
    ("final_layer.*", zeros),
    ("*.adaLN_modulation*.weight", zeros),
    ("t_embedder*.weight", normal(0.02)),
    ("y_embedder*.weight", normal(0.02)),
    ("x_embedder.proj.weight", xavier_flat),
    ("*.logit_scale", lambda tensor, rng: tensor.fill_(math.log(10))),
    ("*", xavier),
)
SQUEEZED_STARTS: Starts = (("blocks.*.adaLN_modulation.1.weight", xavier), *STARTS)
"""Of the two linear maps only the last is zero: with both at zero neither would ever receive a gradient."""
SHARED_STARTS: Starts = (("t_block.1.weight", normal(0.02)), ("*.scale_shift_table", table_normal), *STARTS)


class Network(nn.Module, ABC):
    """(noisy latents, times, labels) -> prediction."""

    spec: DataSpec
    num_labels: int
    """Rows of the label table; 0: the network is unconditional."""
    starts: Starts = STARTS
    """How its parameters start, before any scheme."""

    @torch.no_grad()
    def reset(self, rng: torch.Generator) -> None:
        """Draw all parameters anew, in their order, from `rng` alone; make what is fixed."""
        for name, parameter in self.named_parameters():
            fill = next(fill for pattern, fill in self.starts if fnmatchcase(name, pattern))
            fill(parameter, rng)
        self.load_state_dict(self.fixed(), strict=False)

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

    def resized(
        self, *, hidden_size: int | None = None, depth: int | None = None, num_heads: int | None = None
    ) -> "ModelConfig":
        """The same at other sizes; `depth` is the number of blocks wherever blocks repeat."""
        sizes: dict[str, Any] = {"hidden_size": hidden_size, "num_heads": num_heads}
        sizes["depth"] = depth and self.depth_of(depth)
        return replace(self, **{name: size for name, size in sizes.items() if size})

    def depth_of(self, blocks: int) -> Any:
        """The field `depth` for so many blocks wherever blocks repeat."""
        return blocks

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
