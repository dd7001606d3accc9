"""Seeds to images: image i is a function of (seed, i) and its label, whoever draws it and in whatever company."""

from adaln.sampling.config import SampleConfig, choose_labels
from adaln.sampling.drawing import Drawing, Progress, Samples, num_updates, prepare, sample, seeded_draw
from adaln.sampling.networks import SampleExecution, Weak
from adaln.sampling.parts import save_samples

__all__ = [
    "Drawing",
    "Progress",
    "SampleConfig",
    "SampleExecution",
    "Samples",
    "Weak",
    "choose_labels",
    "num_updates",
    "prepare",
    "sample",
    "save_samples",
    "seeded_draw",
]
