"""What happens inside: distributions, entropies, update order, closed-form gradients, fitted starts."""

from adaln.analysis.descriptions import Description, describe
from adaln.analysis.distributions import (
    Entropy,
    GaussianFit,
    Histogram,
    Moments,
    Summary,
    mean_absolute_difference,
    summarise,
)
from adaln.analysis.fit import METHODS, Fit, fit_start
from adaln.analysis.groups import Group
from adaln.analysis.lattice import Sketch, sketch
from adaln.analysis.recorder import LOG_SPACED_STEPS, Recorder, RoleRecord, observe, read_recording
from adaln.analysis.update_order import UpdateOrder, update_order
from adaln.analysis.weight_space import (
    Distance,
    EntropyPoint,
    GateSize,
    checkpoints,
    distances,
    entropy_trajectory,
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
    "EntropyPoint",
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
    "checkpoints",
    "describe",
    "distances",
    "entropy_trajectory",
    "fit_start",
    "gate_sizes",
    "interpolate",
    "mean_absolute_difference",
    "observe",
    "permute_role",
    "read_recording",
    "sketch",
    "summarise",
    "update_order",
]
