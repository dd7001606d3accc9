"""What happens inside: distributions, entropies, update order, closed-form gradients, fitted starts."""

from adaln.analysis.distributions import Entropy, Histogram, Summary, describe, summarise
from adaln.analysis.fit import METHODS
from adaln.analysis.groups import Group, checkpoints
from adaln.analysis.paper_names import UpdateOrder, update_order
from adaln.analysis.recorder import LOG_SPACED_STEPS, Recorder, RoleRecord, observe, read_recording
from adaln.analysis.sketch import Moments, Sketch, sketch
from adaln.analysis.weight_space import Distance, distances, gate_sizes, interpolate, permute_role

__all__ = [
    "LOG_SPACED_STEPS",
    "METHODS",
    "Distance",
    "Entropy",
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
    "gate_sizes",
    "interpolate",
    "observe",
    "permute_role",
    "read_recording",
    "sketch",
    "summarise",
    "update_order",
]
