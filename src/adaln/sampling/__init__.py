"""Seeds to images: image i is a function of (seed, i) and its label, whoever draws it and in whatever company."""

from adaln.sampling.config import SampleConfig, choose_labels
from adaln.sampling.networks import SampleExecution, Weak
from adaln.sampling.parts import save_samples
from adaln.sampling.sampler import Sampler, Samples, load_sampler, sample, seeded_draw

__all__ = [
    "SampleConfig",
    "SampleExecution",
    "Sampler",
    "Samples",
    "Weak",
    "choose_labels",
    "load_sampler",
    "sample",
    "save_samples",
    "seeded_draw",
]
