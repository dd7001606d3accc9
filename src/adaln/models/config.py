"""A network as data: its sizes and choices, and what it holds and computes. Nothing here needs torch.

A kind of network is two files: its config (`dit_config`), which builds and describes it, and its module (`dit`).
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from adaln.specs import DataSpec, ProcessConfig

if TYPE_CHECKING:
    import torch

NUM_TIME_FEATURES = 256
MOST = 1 << 24
"""A size beyond which no network is meant, but a slip of a finger."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What a network, or a part of one, holds and computes."""

    parameters: int = 0
    """Trainable ones."""
    flops: int = 0
    """Floating-point operations of a forward pass, per sample; one multiply-add is 2."""

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(self.parameters + other.parameters, self.flops + other.flops)

    def __rmul__(self, times: int) -> "Counts":
        return Counts(times * self.parameters, times * self.flops)


def linear(inputs: int, outputs: int, vectors: int = 1, *, bias: bool = True) -> Counts:
    """A linear map of so many vectors; of a convolution `inputs` are those of one output."""
    return Counts((inputs + bias) * outputs, 2 * inputs * outputs * vectors)


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
    def network(self, spec: DataSpec) -> "torch.nn.Module":
        """The network for this data, as its constructors leave it."""

    def drawn(self, spec: DataSpec, rng: "torch.Generator") -> "torch.nn.Module":
        """A fresh network on the device of `rng`, which decides all its weights."""
        import torch

        from adaln.models.network import Network

        with torch.device("meta"):
            model = self.network(spec)
        assert isinstance(model, Network)
        model.to_empty(device=rng.device).reset(rng)
        return model

    def check(self, spec: DataSpec, process: ProcessConfig) -> None:
        """`ValueError` in one line where the network cannot learn this process on this data."""
        if self.outputs_per_channel != process.outputs_per_channel:
            raise ValueError(
                f"the process needs {process.outputs_per_channel} output(s) per channel, the model gives"
                f" {self.outputs_per_channel}: set model.learn_sigma (of a network of your own"
                " model.outputs-per-channel) as the process learns its variance or not (a flow takes a SiT)"
            )

    @abstractmethod
    def describe(self) -> str:
        """The network by its sizes, in words that follow "is"."""

    def counts(self, spec: DataSpec) -> Counts:
        """What the network holds and computes: counted on it, or by arithmetic where a config knows better."""
        from adaln.models.network import counted

        return counted(self, spec)

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

    def data_size(self, tensors: "Mapping[str, torch.Tensor]") -> tuple[int, int] | None:
        """Height and width of the data that weights are for, where they tell."""
        return None


def num_labels(spec: DataSpec, class_dropout_prob: float) -> int:
    """Rows of a label table: the classes, and one for the null class if labels are ever dropped."""
    return spec.num_classes + 1 if spec.num_classes and class_dropout_prob > 0 else spec.num_classes


def mlp_width(hidden_size: int, mlp_ratio: float) -> int:
    """Width of an MLP over that of the tokens; `ValueError` where that is no width."""
    if not 0 < mlp_ratio < MOST / hidden_size or hidden_size * mlp_ratio < 1:
        raise ValueError(f"got mlp_ratio {mlp_ratio}, expected a number that makes {hidden_size} at least 1 wide")
    return int(hidden_size * mlp_ratio)


def check_sizes(class_dropout_prob: float, **counts: int) -> None:
    """Raise one ValueError for a configuration that is no network at all."""
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"got {name} {count}, expected at least 1")
        if count > MOST:
            raise ValueError(f"got {name} {count}, expected at most {MOST}")
    if not 0 <= class_dropout_prob < 1:
        raise ValueError(f"got class_dropout_prob {class_dropout_prob}, expected 0 <= p < 1 (at 1 no label is seen)")
