"""Where gate, scale and shift live, how they start, and when they may move."""

from adaln.conditioning.choice import UnknownLayout
from adaln.conditioning.distributions import Constant, Distribution, Normal, std_of
from adaln.conditioning.families import FAMILIES, standard_inputs
from adaln.conditioning.family import VALUE_FUNCTIONS, Branch, Family, Layer, Role, Stream
from adaln.conditioning.initialisation import all_starts, initialise, starts_of
from adaln.conditioning.layout import Layout, find_layout, find_sites
from adaln.conditioning.layout_file import family_named, family_text
from adaln.conditioning.schemes import PARAMETRIC, SCHEMES, Scheme, Start, save_scheme, scheme
from adaln.conditioning.sites import Site
from adaln.conditioning.update_order import (
    Loss,
    MakeOptimizer,
    Order,
    OrderPart,
    adamw,
    hold,
    holding,
    measure_order,
    num_held,
    order_to_hold,
    refuse_weight_decay,
    sgd,
)

__all__ = [
    "FAMILIES",
    "PARAMETRIC",
    "SCHEMES",
    "VALUE_FUNCTIONS",
    "Branch",
    "Constant",
    "Distribution",
    "Family",
    "Layer",
    "Layout",
    "Loss",
    "MakeOptimizer",
    "Normal",
    "Order",
    "OrderPart",
    "Role",
    "Scheme",
    "Site",
    "Start",
    "Stream",
    "UnknownLayout",
    "adamw",
    "all_starts",
    "family_named",
    "family_text",
    "find_layout",
    "find_sites",
    "hold",
    "holding",
    "initialise",
    "measure_order",
    "num_held",
    "order_to_hold",
    "refuse_weight_decay",
    "save_scheme",
    "scheme",
    "sgd",
    "standard_inputs",
    "starts_of",
    "std_of",
]
