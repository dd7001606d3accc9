"""Seeds to images: image i is a function of (seed, i) and its label, whoever draws it and in whatever company."""

from adaln.sampling.config import SampleConfig, choose_labels
from adaln.sampling.drawing import Drawing, Samples, prepare, sample, seeded_draw
from adaln.sampling.networks import SampleExecution, Weak
from adaln.sampling.parts import save_samples

__all__ = [
    "Drawing",
    "SampleConfig",
    "SampleExecution",
    "Samples",
    "Weak",
    "choose_labels",
    "prepare",
    "sample",
    "save_samples",
    "seeded_draw",
]
