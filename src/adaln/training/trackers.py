"""Who is told what a run logs while it trains, besides its metrics.jsonl."""

from collections.abc import Callable, Mapping
from typing import Protocol

from adaln.registry import Registry
from adaln.runs import Run


class Tracker(Protocol):
    """What follows one run; lives in the first process."""

    def on_log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Called with every line of metrics.jsonl, after it was written; what it raises ends the training."""
        ...


MakeTracker = Callable[[Run], Tracker]
TRACKERS: Registry[MakeTracker] = Registry("tracker", {}, accepts=Callable)
"""Trackers by name, each made for a run: `adaln train PRESET --track NAME`."""
