"""An initialisation measured from a pilot run: how wide each role's weights have become, as a scheme to start from.

The paper's block-wise start (A.11) is a fit of this kind, with coefficients printed for 28 blocks. Here the same is
measured from any weights, of any depth: one std per role, or one per role and block.

>>> from adaln.conditioning import SCHEMES, initialise
>>> from adaln.models import MODELS, build
>>> from adaln.rng import generator
>>> from adaln.specs import DataSpec
>>> pilot = build(MODELS["tiny"], DataSpec(1, 8, 8, 10), generator("pilot"))
>>> sites = initialise(pilot, SCHEMES["adaln-gaussian-v2"], generator("pilot", "start"))
>>> fitted = fit(pilot)
>>> [f"{name} {role.stds[0]:.4f}" for name, role in fitted.roles.items()]
['gate 0.0008', 'scale 0.0012', 'shift 0.0008']
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from math import erf, exp, log, sqrt

import numpy as np

from adaln.analysis.distributions import sketches
from adaln.analysis.groups import Group, Weights, class_of, fetched, role_rows, weights_of
from adaln.analysis.sketch import Sketch, nearest_cells
from adaln.conditioning import Family, Normal, Scheme, Start
from adaln.registry import Registry, nearest

ROLES = ("gate", "scale", "shift")
PAPER_DEGREES: Mapping[str, int] = {"gate": 7, "scale": 5, "shift": 5}
"""Degree of the smoothing polynomial for 28 blocks (A.11)."""
_Z95 = 1.959964
_IQR_OF_NORMAL = 1.3489795
_WINDOW_STDS = 0.5


@dataclass(frozen=True, slots=True)
class Estimate:
    """A standard deviation and its 95 % interval."""

    std: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class RoleFit:
    """One role: what was measured, and the std that the scheme will use after smoothing and rescaling."""

    measured: tuple[Estimate, ...]
    """One for all blocks, or one per block in forward order."""
    stds: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Fit:
    """A fitted start of the roles that the network has, one of gate, scale and shift at least."""

    method: str
    roles: Mapping[str, RoleFit]

    def scheme(self, name: str) -> Scheme:
        """The start as a scheme; the final layer starts at zero as in every scheme of the paper."""

        def starts(role: str) -> Start | tuple[Start, ...]:
            all_starts = tuple(Start(Normal(std)) for std in self.roles[role].stds)
            return all_starts if len(all_starts) > 1 else all_starts[0]

        lacking = [role for role in ROLES if role not in self.roles]
        note = f"fitted by {self.method} from a pilot run" + f", which has no {' and no '.join(lacking)}" * bool(
            lacking
        )
        return Scheme(name, **{role: starts(role) for role in self.roles}, note=note)  # type: ignore[arg-type]

    @property
    def num_blocks(self) -> int:
        """How many of them have a start of their own; 1: all have the same."""
        return len(next(iter(self.roles.values())).stds)


def fit(
    source: Weights,
    method: str = "moments",
    *,
    by_block: bool = False,
    base: Mapping[str, float] | None = None,
    family: str | Family | None = None,
    class_name: str = "",
) -> Fit:
    """The start that trained weights suggest: how wide gate, scale and shift have become, in all blocks or in each.

    `source` is a network, tensors by name, a file, or a run (or `hf:ORG/NAME`), whose newest checkpoint is
    measured (the weights in training). `fit(...).scheme("mine")` is a scheme to start from.
    `method` is one of `METHODS`; "peak" with `by_block` smooths the peaks over blocks by a polynomial as in A.11.
    `base` gives the stds of some roles anew, e.g. {"gate": 8e-4}, and keeps their shape over blocks:
    std(L) = base * mean(1 / s) * s(L), the paper's base / (P(L) / mean P).
    `family` (a name, a layout file) and `class_name` decide between two families of the same names.
    Raises `ValueError` for an unknown method, for weights that are exactly zero, and by block for a shared modulation.
    A role that the network lacks is left out, which the scheme's note says.

    >>> import adaln
    >>> from adaln.models import MODELS, build
    >>> from adaln.rng import generator
    >>> from adaln.specs import DataSpec
    >>> network = build(MODELS["tiny"], DataSpec(1, 8, 8, 10), generator("fit"))
    >>> started = adaln.initialise(network, "adaln-gaussian")
    >>> {role: round(of.stds[0], 4) for role, of in fit(network).roles.items()}
    {'gate': 0.001, 'scale': 0.001, 'shift': 0.001}
    """
    estimate, source = METHODS[method], fetched(source)
    for role in base or {}:
        if role not in ROLES:
            raise ValueError(f"unknown role {role!r} of base{nearest(role, ROLES)}; known: {', '.join(ROLES)}")
    find_rows = partial(role_rows, family=family, class_name=class_name or class_of(source))
    all_sketches = sketches(weights_of(source)[0], find_rows)
    names = {group.name for group in all_sketches}
    there = [role for role in ROLES if role in names]
    if lacking := [role for role in base or {} if role not in there]:
        raise ValueError(f"base names the {lacking[0]}, which these weights do not have: {', '.join(there) or 'none'}")
    if not there:
        raise ValueError("no gate, scale or shift to fit: nothing here is a modulation layer of a known layout")
    if by_block and any("table" in group.name for group in all_sketches):
        raise ValueError("a shared modulation has no matrices per block: fit it without by_block")
    roles = {}
    for role in there:
        of_role = [g for g in all_sketches if g.name == role and g.branch is None and (g.depth is not None) == by_block]
        of_role.sort(key=lambda group: group.depth or 0)
        measured = tuple(_measured(estimate, group, all_sketches[group]) for group in of_role)
        stds = tuple(one.std for one in measured)
        if method == "peak" and by_block:
            stds = smoothed(stds, PAPER_DEGREES[role])
        roles[role] = RoleFit(measured, rescaled(stds, base[role]) if base and role in base else stds)
    return Fit(method, roles)


def smoothed(stds: tuple[float, ...], paper_degree: int) -> tuple[float, ...]:
    """Stds whose inverses, which are histogram peaks, follow a polynomial in the block index (A.11).

    At most one degree per four blocks, as in the paper's own 7 for 28. Raises `ValueError` where the polynomial
    falls to zero.
    """
    degree = min(paper_degree, len(stds) // 4)
    blocks, peaks = np.arange(len(stds)), 1 / np.array(stds)
    curve = np.polynomial.Polynomial.fit(blocks, peaks, degree)(blocks)
    if curve.min() <= 0:
        raise ValueError(f"the peaks' polynomial of degree {degree} falls to zero, expected > 0: fit by moments")
    return tuple((1 / curve).tolist())


def rescaled(stds: tuple[float, ...], base: float) -> tuple[float, ...]:
    """The same shape over blocks with the harmonic mean `base`: base / (P(L) / mean P) with P = 1 / std (A.11)."""
    inverse = np.array([1 / std for std in stds])
    return tuple((base * inverse.mean() / inverse).tolist())


def by_moments(values: Sketch) -> Estimate:
    """The standard deviation; relative error sqrt((kurtosis - 1) / 4n)."""
    kurtosis = values.m4 * values.count / values.m2**2
    return _with_interval(values.std, sqrt(max(kurtosis - 1, 0) / (4 * values.count)))


def robust(values: Sketch) -> Estimate:
    """Interquartile range / 1.349, which no tail moves; relative error 1.166 / sqrt(n) for a Gaussian."""
    return _with_interval(_iqr_std(values), 1.166 / sqrt(values.count))


def by_peak(values: Sketch) -> Estimate:
    """The std of the Gaussian whose histogram is as high at its peak: exact for a Gaussian, small for a sharp peak.

    The peak is the largest share of values in a window half a robust std wide, slid by a tenth. A maximum of noisy
    shares is high by up to one standard error, so the interval reaches one further up.
    """
    scale = _iqr_std(values)
    (median,) = values.quantiles(np.array([0.5]))
    shares = values.counts_between(np.unique(nearest_cells(median + scale * np.arange(-3, 3.05, 0.1)))) / values.count
    width = round(_WINDOW_STDS / 0.1)
    share = float(np.convolve(shares, np.ones(width), mode="valid").max())
    std = scale * _width_of_share(share)
    error = sqrt((1 - share) / (share * values.count))
    return Estimate(std, std * exp(-_Z95 * error), std * exp((_Z95 + 1) * error))


METHODS: Registry[Callable[[Sketch], Estimate]] = Registry(
    "fit method", {"moments": by_moments, "robust": robust, "peak": by_peak}
)


def _measured(estimate: Callable[[Sketch], Estimate], group: Group, values: Sketch) -> Estimate:
    where = f"the {group.name} of {group.block or 'all blocks'}"
    if values.nans or values.infs:
        raise ValueError(f"{where} holds {values.nans} NaN and {values.infs} infinite values; expected finite weights")
    if not values.m2:
        raise ValueError(f"{where} is the constant {values.mean:g}; expected trained weights: choose a later step")
    return estimate(values)


def _with_interval(std: float, relative_error: float) -> Estimate:
    return Estimate(std, std * exp(-_Z95 * relative_error), std * exp(_Z95 * relative_error))


def _iqr_std(values: Sketch) -> float:
    quarter, three_quarters = values.quantiles(np.array([0.25, 0.75]))
    return float(three_quarters - quarter) / _IQR_OF_NORMAL


def _width_of_share(share: float) -> float:
    """s such that N(0, s^2) has this share within +-0.25, by bisection on log s."""
    low, high = log(1e-6), log(1e6)
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if erf(_WINDOW_STDS / 2 / exp(middle) / sqrt(2)) > share else (low, middle)
    return exp((low + high) / 2)
