"""Seconds of things that take turns, so that a change of the machine's load meets all of them."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch

from adaln.progress import progress

Clock = Literal["wall", "processor"]


@dataclass(frozen=True, slots=True)
class Taken:
    """Seconds of one call."""

    wall: float
    processor: float
    """Of all threads: what other work on the machine lengthens less."""


@dataclass(frozen=True, slots=True)
class Turns:
    """Every call's seconds, by contender."""

    taken: Mapping[str, list[Taken]]

    def median(self, clock: Clock = "wall") -> dict[str, float]:
        """The middle of each contender's turns: what it takes beside whatever else the machine does."""
        return {name: statistics.median(getattr(t, clock) for t in turns) for name, turns in self.taken.items()}

    def least(self, clock: Clock = "wall") -> dict[str, float]:
        """The shortest of each contender's turns: what it takes while the machine does nothing else."""
        return {name: min(getattr(t, clock) for t in turns) for name, turns in self.taken.items()}


def seconds_of(work: Callable[[], object]) -> Taken:
    """Seconds of one call, the device's queue emptied before and after."""
    synchronize()
    wall, processor = time.perf_counter(), time.process_time()
    work()
    synchronize()
    return Taken(time.perf_counter() - wall, time.process_time() - processor)


def in_turns(contenders: Mapping[str, Callable[[], object]], repeats: int) -> Turns:
    """Each contender once in every turn; a first turn, in which caches fill and kernels are chosen, is not counted."""
    taken: dict[str, list[Taken]] = {name: [] for name in contenders}
    for turn in range(repeats + 1):
        progress(f"time {', '.join(contenders)}", turn, repeats + 1, "turns")
        for name, work in contenders.items():
            seconds = seconds_of(work)
            if turn:
                taken[name].append(seconds)
    return Turns(taken)


def synchronize() -> None:
    """Wait for the GPU, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
