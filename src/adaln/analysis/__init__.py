"""What happens inside: distributions, entropies, update order, closed-form gradients, fitted starts."""

from adaln.analysis.distributions import Description, Entropy, GaussianFit, Histogram, Summary, describe, summarise
from adaln.analysis.fit import METHODS, Fit
from adaln.analysis.groups import Group
from adaln.analysis.recorder import LOG_SPACED_STEPS, Recorder, RoleRecord, observe, read_recording
from adaln.analysis.sketch import Moments, Sketch, sketch
from adaln.analysis.sources import Weights, checkpoints, weights_of
from adaln.analysis.update_order import UpdateOrder, update_order
from adaln.analysis.weight_space import (
    Distance,
    GateSize,
    distances,
    gate_sizes,
    interpolate,
    permute_role,
)

__all__ = [
    "LOG_SPACED_STEPS",
    "METHODS",
    "Description",
    "Distance",
    "Entropy",
    "Fit",
    "GateSize",
    "GaussianFit",
    "Group",
    "Histogram",
    "Moments",
    "Recorder",
    "RoleRecord",
    "Sketch",
    "Summary",
    "UpdateOrder",
    "Weights",
    "checkpoints",
    "describe",
    "distances",
    "gate_sizes",
    "interpolate",
    "observe",
    "permute_role",
    "read_recording",
    "sketch",
    "summarise",
    "update_order",
    "weights_of",
]
