"""What networks and processes must be told before there are any: words of `adaln.types` that need no torch."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import adaln.types


@dataclass(frozen=True, slots=True)
class DataSpec:
    """What a network must know of the data it is built for."""

    channels: int
    height: int
    width: int
    num_classes: int
    """0: unconditional, the network has no label embedding and takes `y=None`."""


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
