"""Which known start weights look like, if any: spread and share of exact zeros, against what each scheme would draw.

Nearness of one group (the rows of one site in one tensor) to a start:

    d = |ln(max(std, 1e-8) / max(std of the start, 1e-8))| + |share of zeros - that of the start|

so d = 0.7 is a factor of two, and exact zeros are far (about 11) from a std of 1e-3. The nearest start of a model has
the smallest mean of d over all its groups, biases and final layer included. Weights ARE at that start if no group is
farther than 0.05 and five standard errors of a std; else they have been trained. All starts have biases of exactly
zero or one, or a library's own: that, and equal spread in every block, is what training ends first.
Schemes that draw the same numbers (adaln-step1 and adaln-mix, adaln-gaussian and adaln-backbone) count as the first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log, sqrt

from torch import Tensor

from adaln.analysis.sketch import Sketch
from adaln.conditioning import SCHEMES, Constant, Site, starts_of, std_of
from adaln.conditioning.initialisation import mechanisms
from adaln.conditioning.startable import whole_of

LIBRARY_DEFAULT = "torch-default"
"""The scheme, but for diffusers' tables, which are N(0, 1 / D)."""
PIXART = "table-normal"
"""The scheme, for networks without tables too."""
ZERO_BLOCKS = "zero blocks"
"""All of the blocks zero, the last layer as torch leaves it (PRX, ERNIE-Image)."""
_FLOOR_STD = 1e-8
_TOLERANCE = 0.05
_STANDARD_ERRORS = 5
_ROUNDING = 1e-9

Key = tuple[str, int]
"""Tensor and first row of a group."""


@dataclass(frozen=True, slots=True)
class Spread:
    """What nearness is measured on."""

    std: float
    zero_share: float


@dataclass(frozen=True, slots=True)
class NearestStart:
    """The start that weights are nearest to."""

    name: str
    distance: float
    """Mean of d; 0.7 is a factor of two in the std."""
    is_start: bool
    """Whether the weights are at this start; else they have been trained (or started otherwise)."""


Starts = Mapping[str, Mapping[Key, Spread]]
Distances = Mapping[str, Mapping[Key, float]]
"""By the name of a start."""


def known_starts(sites: Sequence[Site], shapes: Mapping[str, Tensor]) -> Starts:
    """By name, what each known start would leave in every group of these sites; block-wise ones where they fit."""
    starts: dict[str, Mapping[Key, Spread]] = {}
    for name, scheme in SCHEMES.items():
        if scheme.needs and scheme.needs not in mechanisms(sites):
            continue
        try:
            rows = list(starts_of(scheme, sites))
        except ValueError:  # a block-wise scheme of another depth
            continue
        starts[name] = {
            (tensor, rows.start): Spread(
                std_of(distribution, rows.stop - rows.start, whole_of(tensor, shapes)),
                float(distribution == Constant(0.0)),
            )
            for tensor, rows, distribution in rows
        }
    for name in (LIBRARY_DEFAULT, PIXART, ZERO_BLOCKS):
        starts[name] = {
            (tensor, site.rows.start): _of_library(name, site, tensor, shapes)
            for site in sites
            for tensor in site.tensors()
        }
    return starts


def _of_library(start: str, site: Site, tensor: str, shapes: Mapping[str, Tensor]) -> Spread:
    """What a library leaves in one tensor of a site."""
    fan_in = shapes[site.weight or tensor].shape[-1]
    if start == ZERO_BLOCKS and site.branch != "final":
        return Spread(0.0, 1.0)
    if site.weight is None:
        return Spread(fan_in**-0.5, 0.0)
    if start != PIXART:
        return Spread((3 * fan_in) ** -0.5, 0.0)
    return Spread(0.02, 0.0) if tensor == site.weight and site.branch != "final" else Spread(0.0, 1.0)


def distance(values: Sketch, start: Spread) -> float:
    """d of one group."""
    ratio = max(values.std, _FLOOR_STD) / max(start.std, _FLOOR_STD)
    return abs(log(ratio)) + abs(values.zeros / max(values.count, 1) - start.zero_share)


def distances(groups: Mapping[Key, Sketch], starts: Starts) -> Distances:
    """d of every group to every start."""
    return {
        name: {key: distance(values, start[key]) for key, values in groups.items()} for name, start in starts.items()
    }


def nearest_start(groups: Mapping[Key, Sketch], to: Distances) -> NearestStart:
    """The start that these groups are nearest to, the first of equals, whose std may differ by rounding."""
    finite = {key: values for key, values in groups.items() if values.count}
    means = {name: sum(d[key] for key in finite) / max(len(finite), 1) for name, d in to.items()}
    name = next(name for name, mean in means.items() if mean <= min(means.values()) + _ROUNDING)
    is_at = all(to[name][k] <= _TOLERANCE + _STANDARD_ERRORS / sqrt(2 * v.count) for k, v in finite.items())
    return NearestStart(name, means[name], is_at and len(finite) == len(groups))
