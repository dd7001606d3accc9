"""What is said of data, processes and execution before there are any: words of several rooms that need no torch."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import adaln.types


Precision = Literal["float32", "tf32", "bfloat16"]
"""float32 throughout; the same with matrix products in TF32; or the network's forward under bfloat16 autocast. Weights,
optimiser, moving average and loss are float32 in all of them."""


StoredType = Literal["float32", "bfloat16"]
"""What the weights in training are kept in; the optimiser's moments and averages are float32 in both."""
WeightSet = Literal["ema", "model"]
"""Averaged weights, or those in training."""
By = Literal["role", "block", "branch"]
"""What distributions are taken over: all blocks, each, or attention and MLP of each."""


@dataclass(frozen=True, slots=True)
class DataSpec:
    """What a network must know of the data it is built for."""

    channels: int
    height: int
    width: int
    num_classes: int
    """0: unconditional, the network has no label embedding and takes `y=None`."""

    def __post_init__(self) -> None:
        for name, least in {"channels": 1, "height": 1, "width": 1, "num_classes": 0}.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least {least}")


@dataclass(frozen=True)
class ProcessConfig(ABC):
    """The choices of a process."""

    @property
    @abstractmethod
    def outputs_per_channel(self) -> int:
        """Output channels that the network needs per data channel: 2 where it learns a variance as well, else 1."""

    @abstractmethod
    def build(self) -> "adaln.types.Process":
        """The process."""


@dataclass(frozen=True, slots=True)
class Execution:
    """How a run is computed: time and memory depend on it, numbers only by rounding, a run's hash not at all."""

    compile: bool = False
    """Compile each block (torch.compile); blocks of one kind and shape share one compilation."""
    checkpoint_blocks: int = 0
    """Activation checkpointing: the inside of every k-th block is computed again in the backward pass; 0: of none."""
    parallel: Literal["ddp", "fsdp"] = "ddp"
    """Several processes: each has the whole network (ddp), or its share of the rows of all weights, gradients, averages
    and moments (fsdp), which takes less memory and more messages."""
    micro_batches: int = 1
    """Parts into which a process divides its share of a batch to save memory; the gradient is that of the whole."""
    deterministic: bool = False
    """On CUDA only kernels that give the same bits every time, so that a resumed run is the same bit for bit, as it is
    on the CPU; the backward pass of fused attention takes longer so."""

    def __post_init__(self) -> None:
        if self.checkpoint_blocks < 0:
            raise ValueError(f"checkpoint_blocks is {self.checkpoint_blocks}; expected 0 (none), 1 (all), 2 (half) ...")
        if self.micro_batches < 1:
            raise ValueError(f"micro_batches is {self.micro_batches}; expected an integer >= 1")


DEFAULT_EXECUTION = Execution()
"""Nothing compiled, nothing computed twice, whole batches."""

WIDEST_AVERAGE = 12**-0.5
"""The relative width of a power-function average of exponent 0, where all steps count alike."""


def check_width(name: str, width: float) -> None:
    """ValueError for what is no width of a power-function average."""
    if not 0.001 <= width <= WIDEST_AVERAGE:
        raise ValueError(f"{name} is {width:g}; expected a width from 0.001 to {WIDEST_AVERAGE:.3f}, e.g. 0.05")
