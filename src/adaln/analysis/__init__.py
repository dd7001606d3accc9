"""What happens inside: distributions, entropies, update order, closed-form gradients, fitted starts."""

from adaln.analysis.describe import Description, TensorFile, describe
from adaln.analysis.distributions import (
    Entropy,
    GaussianFit,
    Histogram,
    Moments,
    Summary,
    mean_absolute_difference,
    summarise,
)
from adaln.analysis.groups import Group
from adaln.analysis.recorder import LOG_SPACED_STEPS, Recorder, RoleRecord, observe, read_recording
from adaln.analysis.sketch import Sketch, sketch
from adaln.analysis.update_order import UpdateOrder

__all__ = [
    "LOG_SPACED_STEPS",
    "Description",
    "Entropy",
    "GaussianFit",
    "Group",
    "Histogram",
    "Moments",
    "Recorder",
    "RoleRecord",
    "Sketch",
    "Summary",
    "TensorFile",
    "UpdateOrder",
    "describe",
    "mean_absolute_difference",
    "observe",
    "read_recording",
    "sketch",
    "summarise",
]
