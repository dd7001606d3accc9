"""How a checkpoint is scored, as data."""

from dataclasses import dataclass

from adaln.sampling.config import SampleConfig


@dataclass(frozen=True, slots=True)
class Scoring:
    """How a checkpoint is scored: how its samples are drawn, in which features they are seen, and beside what."""

    sample: SampleConfig
    features: str | None = None
    """None: those that the reference suggests, a classifier of its classes for labelled data."""
    reference: str | None = None
    """None: the data that the run learns from."""
