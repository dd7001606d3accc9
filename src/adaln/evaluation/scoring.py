"""How a checkpoint is scored, as data."""

from dataclasses import dataclass, field

from adaln.codec import LEFT_OUT_AT_DEFAULT
from adaln.sampling.config import SampleConfig
from adaln.specs import WeightSet


@dataclass(frozen=True, slots=True)
class Scoring:
    """How a checkpoint is scored: how its samples are drawn, in which features they are seen, and beside what."""

    sample: SampleConfig
    features: str | None = None
    """None: those that the reference suggests, a classifier of its classes for labelled data."""
    reference: str | None = None
    """None: the data that the run learns from."""
    further: tuple[str, ...] = field(default=(), metadata=LEFT_OUT_AT_DEFAULT)
    """Scores beside those of ADM's suite."""


@dataclass(frozen=True, slots=True)
class Grid:
    """What a sweep varies: every combination of these is sampled and scored."""

    guidance: tuple[float, ...] = ()
    """Scales of classifier-free guidance; default: 1, 1.25, 1.5, 2 and 3, or 1 for an unconditional network."""
    weights: tuple[WeightSet, ...] = ("ema", "model")
    """Averaged weights, raw ones."""
    ema: tuple[float, ...] = ()
    """Widths of power-function averages, beside `weights`, for a run that keeps some (--optim.ema-widths)."""
    steps: tuple[int, ...] = ()
    """Steps of the solver; default: those of --sampler.steps."""
