"""Where gate, scale and shift live, how they start, and when they may move."""

from typing import TYPE_CHECKING

from adaln.lazily import lazily

if TYPE_CHECKING:
    from adaln.conditioning.choice import UnknownLayout as UnknownLayout
    from adaln.conditioning.distributions import Constant as Constant
    from adaln.conditioning.distributions import Distribution as Distribution
    from adaln.conditioning.distributions import Normal as Normal
    from adaln.conditioning.distributions import std_of as std_of
    from adaln.conditioning.families import FAMILIES as FAMILIES
    from adaln.conditioning.families import standard_inputs as standard_inputs
    from adaln.conditioning.family import VALUE_FUNCTIONS as VALUE_FUNCTIONS
    from adaln.conditioning.family import Family as Family
    from adaln.conditioning.family import Layer as Layer
    from adaln.conditioning.family import Role as Role
    from adaln.conditioning.family import effect as effect
    from adaln.conditioning.held_rows import Loss as Loss
    from adaln.conditioning.held_rows import Order as Order
    from adaln.conditioning.held_rows import OrderPart as OrderPart
    from adaln.conditioning.held_rows import holding as holding
    from adaln.conditioning.held_rows import num_held as num_held
    from adaln.conditioning.held_rows import refuse_weight_decay as refuse_weight_decay
    from adaln.conditioning.initialisation import all_starts as all_starts
    from adaln.conditioning.initialisation import initialise as initialise
    from adaln.conditioning.initialisation import starts_of as starts_of
    from adaln.conditioning.layout import Layout as Layout
    from adaln.conditioning.layout import find_layout as find_layout
    from adaln.conditioning.layout import find_sites as find_sites
    from adaln.conditioning.layout_file import family_named as family_named
    from adaln.conditioning.layout_file import family_text as family_text
    from adaln.conditioning.roles import ROLES as ROLES
    from adaln.conditioning.roles import by_role as by_role
    from adaln.conditioning.roles import ordered_roles as ordered_roles
    from adaln.conditioning.roles import roles_of as roles_of
    from adaln.conditioning.scheme_row import Scheme as Scheme
    from adaln.conditioning.scheme_row import Start as Start
    from adaln.conditioning.scheme_row import in_words as in_words
    from adaln.conditioning.schemes import PARAMETRIC as PARAMETRIC
    from adaln.conditioning.schemes import SCHEMES as SCHEMES
    from adaln.conditioning.schemes import save_scheme as save_scheme
    from adaln.conditioning.schemes import scheme as scheme
    from adaln.conditioning.schemes import times as times
    from adaln.conditioning.sites import Site as Site
    from adaln.conditioning.sites import static_tensors as static_tensors
    from adaln.conditioning.update_order import MakeOptimizer as MakeOptimizer
    from adaln.conditioning.update_order import adamw as adamw
    from adaln.conditioning.update_order import measure_order as measure_order
    from adaln.conditioning.update_order import order_to_hold as order_to_hold
    from adaln.conditioning.update_order import sgd as sgd

__getattr__, __all__ = lazily(__name__)
