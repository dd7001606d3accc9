"""Where gate, scale and shift live, how they start, and when they may move."""

from adaln.conditioning.distributions import DISTRIBUTIONS, Constant, Distribution, Normal, Xavier, std_of
from adaln.conditioning.layouts import FAMILIES, Role
from adaln.conditioning.order import (
    Loss,
    MakeOptimizer,
    Order,
    OrderPart,
    adamw,
    hold,
    measure_order,
    order_parts,
    order_to_hold,
    refuse_weight_decay,
    sgd,
)
from adaln.conditioning.scheme_files import load_scheme, save_scheme, scheme
from adaln.conditioning.schemes import PARAMETRIC, SCHEMES, Scheme, Start, initialise, num_held, starts_of
from adaln.conditioning.sites import (
    Site,
    UnknownLayout,
    find_backbone,
    find_branch_ends,
    find_family,
    find_head,
    find_sites,
    wrapper_prefix,
)

__all__ = [
    "DISTRIBUTIONS",
    "FAMILIES",
    "PARAMETRIC",
    "SCHEMES",
    "Constant",
    "Distribution",
    "Loss",
    "MakeOptimizer",
    "Normal",
    "Order",
    "OrderPart",
    "Role",
    "Scheme",
    "Site",
    "Start",
    "UnknownLayout",
    "Xavier",
    "adamw",
    "find_backbone",
    "find_branch_ends",
    "find_family",
    "find_head",
    "find_sites",
    "hold",
    "initialise",
    "load_scheme",
    "measure_order",
    "num_held",
    "order_parts",
    "order_to_hold",
    "refuse_weight_decay",
    "save_scheme",
    "scheme",
    "sgd",
    "starts_of",
    "std_of",
    "wrapper_prefix",
]
