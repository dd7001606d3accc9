"""Seeds to images: image i is a function of (seed, i) and its label, whoever draws it and in whatever company."""

from adaln.sampling.networks import SampleExecution, Weak
from adaln.sampling.parts import save_samples
from adaln.sampling.sampler import SampleConfig, Sampler, Samples, choose_labels, load_sampler, sample

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
]
