"""What happens inside: distributions, entropies, update order, closed-form gradients, fitted starts."""

from adaln.analysis.distributions import Entropy as Entropy
from adaln.analysis.distributions import Histogram as Histogram
from adaln.analysis.distributions import Summary as Summary
from adaln.analysis.distributions import describe as describe
from adaln.analysis.distributions import summarise as summarise
from adaln.analysis.fit import METHODS as METHODS
from adaln.analysis.gauges import gauges as gauges
from adaln.analysis.groups import Group as Group
from adaln.analysis.groups import checkpoints as checkpoints
from adaln.analysis.paper_names import UpdateOrder as UpdateOrder
from adaln.analysis.paper_names import update_order as update_order
from adaln.analysis.recorder import LOG_SPACED_STEPS as LOG_SPACED_STEPS
from adaln.analysis.recorder import Recorder as Recorder
from adaln.analysis.recorder import RoleRecord as RoleRecord
from adaln.analysis.recorder import observe as observe
from adaln.analysis.recorder import read_recording as read_recording
from adaln.analysis.sketch import Moments as Moments
from adaln.analysis.sketch import Sketch as Sketch
from adaln.analysis.sketch import sketch as sketch
from adaln.analysis.weight_space import Distance as Distance
from adaln.analysis.weight_space import distances as distances
from adaln.analysis.weight_space import gate_sizes as gate_sizes
from adaln.analysis.weight_space import interpolate as interpolate
from adaln.analysis.weight_space import permute_role as permute_role
