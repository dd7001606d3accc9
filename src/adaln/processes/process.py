"""What every process is: a config that makes it."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from adaln.types import Process


@dataclass(frozen=True)
class ProcessConfig(ABC):
    """The choices of a process."""

    @property
    @abstractmethod
    def outputs_per_channel(self) -> int:
        """Output channels that the network needs per data channel: 2 where it learns a variance as well, else 1."""

    @abstractmethod
    def build(self) -> Process:
        """The process."""
