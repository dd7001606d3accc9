"""What distributions of weights look like, a network's in one pass: moments, histograms, entropies, Gaussian fits.

Every result names its bins and its estimator, and counts what is not a number. Everything is plain data for JSON:
what is not defined (the skewness of a constant) is None, never NaN.

>>> from math import e, log, pi
>>> import torch
>>> from adaln.analysis import sketch
>>> from adaln.rng import generator
>>> gate = sketch(1e-3 * torch.randn(1000, 1000, generator=generator("example")))
>>> summary = summarise(gate)
>>> round(summary.moments.std, 5), round(summary.entropy.nats, 2), round(0.5 * log(2 * pi * e * 1e-3**2), 2)
(0.001, -5.49, -5.49)
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from adaln.analysis.groups import FindRows, Group, Weights, fetched, grouped_rows, read_rows, weights_of
from adaln.analysis.sketch import (
    LAST_EDGE,
    Moments,
    Sketch,
    lattice_values,
    moments,
    nearest_cells,
    sketch_chunks,
)
from adaln.conditioning import UnknownLayout
from adaln.tensor_files import shapes

HISTOGRAM_STDS = 5.0
HISTOGRAM_BINS_PER_STD = 10
SYMLOG_OCTAVES = 20
FIXED_BIN_WIDTH = 1e-3
"""Bin of the histogram entropy: of the size of the starts that the paper compares."""
_UNIFORM_BINS = 256


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts between edges; with `below`, `above`, `nans` and `infs` they sum to the number of elements."""

    bins: str
    edges: tuple[float, ...]
    counts: tuple[int, ...]
    below: int
    above: int
    nans: int
    infs: int

    @property
    def elements(self) -> int:
        """All that was counted."""
        return sum(self.counts) + self.below + self.above + self.nans + self.infs


@dataclass(frozen=True, slots=True)
class GaussianFit:
    """The Gaussian of the same mean and std, and how far the values are from it."""

    mean: float
    std: float
    ks_distance: float
    """Kolmogorov-Smirnov: sup |F_n(x) - Phi(x)|, taken over lattice edges, so low by at most `ks_resolution`."""
    ks_resolution: float
    kl_nats: float
    """Kullback-Leibler: sum p log(p / q) over `bins`."""
    kl_noise_nats: float
    """What samples of the Gaussian itself would show on average, (K - 1) / 2n for K occupied bins."""
    bins: str


@dataclass(frozen=True, slots=True)
class Entropy:
    """An entropy estimate in nats that says how it was made; its error is `standard_error` and, upwards, `bias`."""

    nats: float | None
    estimator: str
    bins: str
    standard_error: float
    bias: float
    """Bound on what the width of the bins adds, for a Gaussian of this std: sum p (width / std)^2 / 24."""


@dataclass(frozen=True, slots=True)
class Summary:
    """All of one distribution."""

    moments: Moments
    histogram: Histogram
    """Scaled by the std: readable however near to 0 all values sit."""
    symlog: Histogram
    """Logarithmic in |x| on both sides of 0: shows tails and the order of magnitude at once."""
    gaussian: GaussianFit | None
    """None for a constant."""
    entropy: Entropy
    histogram_entropy: Entropy


@dataclass(frozen=True, slots=True)
class Description:
    """One group of values and all that is known of it."""

    group: Group
    summary: Summary


def describe(source: Weights) -> list[Description]:
    """The distribution of gate, scale, shift and all other groups of a network: moments, Gaussian fit, entropy.

    `source` is a network, tensors by name, a file, or a run (or `hf:ORG/NAME`), whose newest checkpoint is described.
    Groups over all blocks come first, then blocks and branches in forward order, then other modules.
    A `TensorFile` is read in one pass through a buffer of constant size.

    >>> from adaln.models import MODELS, build
    >>> from adaln.rng import generator
    >>> from adaln.specs import DataSpec
    >>> net = build(MODELS["tiny"], DataSpec(1, 8, 8, 10), generator("example"))
    >>> [d.group.name for d in describe(net)[:4]]
    ['shift', 'scale', 'gate', 'shift bias']
    """
    if not (found := descriptions(weights_of(fetched(source))[0])):
        raise UnknownLayout("no layer of a known layout among these tensors; expected a diffusion transformer")
    return found


def descriptions(tensors: Mapping[str, Tensor], find_rows: FindRows = grouped_rows) -> list[Description]:
    """As `describe`; none where nothing is known."""
    merged = sketches(tensors, find_rows)
    ordered = sorted(merged, key=lambda g: (g.block is not None, g.depth or 0, g.branch is not None))
    return [Description(group, summarise(merged[group])) for group in ordered]


def sketches(tensors: Mapping[str, Tensor], find_rows: FindRows = grouped_rows) -> dict[Group, Sketch]:
    """The sketch of every group."""
    merged: dict[Group, Sketch] = defaultdict(Sketch)
    for grouped, values in read_rows(tensors, find_rows(shapes(tensors)), sketch_chunks):
        for group in grouped.groups:
            merged[group] += values
    return dict(merged)


def summarise(of: Sketch) -> Summary:
    """Everything below, for one sketch."""
    return Summary(
        moments(of), std_histogram(of), symlog_histogram(of), gaussian_fit(of), differential_entropy(of),
        histogram_entropy(of),
    )  # fmt: skip


def std_histogram(of: Sketch) -> Histogram:
    """100 bins of a tenth of a std around the mean; edges rounded to lattice points, where counts are exact.

    A constant has no std; its bins are a sixteenth of its value wide (1e-6 for all zeros).
    """
    scale = of.std or abs(of.mean) / 16 or 1e-6
    steps = int(HISTOGRAM_STDS * HISTOGRAM_BINS_PER_STD)
    cells = nearest_cells(of.mean + scale / HISTOGRAM_BINS_PER_STD * np.arange(-steps, steps + 1))
    mean = int(cells[steps])
    around_mean = max(mean - 1, -LAST_EDGE), min(mean + 1, LAST_EDGE)  # a bin, however narrow the values
    cells = np.concatenate([cells, around_mean])
    unit = "std" if of.std else "value / 16 (constant)" if of.mean else "1e-6 (all zero)"
    return _histogram(of, np.unique(cells), f"1/{HISTOGRAM_BINS_PER_STD} {unit}, rounded to bfloat16")


def symlog_histogram(of: Sketch) -> Histogram:
    """Four bins per octave of |x| and side, from the 1 % quantile of |x| (at most 20 octaves below the largest) up.

    The bin in the middle holds all that is smaller, exact zeros included.
    """
    largest = max(abs(of.low), abs(of.high)) if of.count else 1.0
    top = min(int(nearest_cells(np.array([largest]))[0]) // 32 * 32 + 32, LAST_EDGE)
    magnitudes = np.abs(of.quantiles(np.linspace(0, 1, 201))) if of.count else np.zeros(1)
    small = int(nearest_cells(np.quantile(magnitudes, [0.01]))[0]) // 32 * 32
    side = np.arange(max(min(small, top - 32), top - 128 * SYMLOG_OCTAVES, 0), top + 1, 32)
    edges = np.union1d(-side, side)
    return _histogram(of, edges, f"symlog, 4 per octave above {lattice_values(side)[0]:.1e}")


def gaussian_fit(of: Sketch) -> GaussianFit | None:
    """The Gaussian of the same mean and std and the distances to it; None for a constant or empty sketch."""
    from scipy.special import ndtr  # torch's starts its threads for a few thousand numbers

    if not of.m2:
        return None
    ends = np.unique(np.concatenate([of.cells, of.cells + 1]))
    cumulative = np.concatenate([[0.0], np.cumsum(of.counts_between(ends))]) / of.count
    distance = float(np.abs(cumulative - ndtr((lattice_values(ends) - of.mean) / of.std)).max())
    edges, bins = _std_edges(of)
    counts = of.counts_between(edges)
    p = counts[counts > 0] / of.count
    log_q = _log_normal_mass((lattice_values(edges) - of.mean) / of.std)[counts > 0]
    divergence = float(p @ (np.log(p) - log_q))
    noise = (len(p) - 1) / (2 * of.count)
    resolution = float(of.counts.max()) / of.count
    return GaussianFit(of.mean, of.std, distance, resolution, divergence, noise, bins)


def differential_entropy(of: Sketch) -> Entropy:
    """h = -sum p log(p / width) + (K - 1) / 2n over K occupied bins of Scott's width; None for a constant (-infinity).

    For a Gaussian, 0.5 log(2 pi e std^2). Source: Miller 1955 for the correction; Scott 1979 for 3.49 std n^(-1/3).
    """
    estimator = "plug-in with Miller-Madow correction"
    if not of.m2:
        return Entropy(None, estimator, "none: a constant", 0.0, 0.0)
    edges, bins = _std_edges(of)
    widths, counts = np.diff(lattice_values(edges)), of.counts_between(edges)
    occupied = counts > 0
    widths, p = widths[occupied], counts[occupied] / of.count
    surprise = np.log(widths) - np.log(p)
    nats = float(p @ surprise) + (len(p) - 1) / (2 * of.count)
    spread = float(p @ (surprise - p @ surprise) ** 2)
    bias = float(p @ np.minimum(widths / of.std, 1e3) ** 2) / 24
    return Entropy(nats, estimator, bins, sqrt(spread / of.count), bias)


def histogram_entropy(of: Sketch, width: float = FIXED_BIN_WIDTH) -> Entropy:
    """H = -sum p log p over bins of one fixed width, so that values of different spread compare (Fig. 5).

    Beyond 128 widths from 0 the lattice is coarser than the bins: there a cell's mass is spread evenly over the
    bins that it covers. A bin is centred on 0, so a tensor of zeros has entropy 0.
    """
    estimator, bins = "plug-in", f"{width:g} wide, one centred on 0"
    if not of.count:
        return Entropy(None, estimator, bins, 0.0, 0.0)
    edges = _edges(of, 0.0, width)
    counts = of.counts_between(edges)
    covered = np.diff(lattice_values(edges))[counts > 0] / width
    spread = np.where(covered > 1.5, covered, 1.0)
    p = counts[counts > 0] / of.count
    surprise = np.log(spread) - np.log(p)
    nats = float(p @ surprise)
    return Entropy(nats, estimator, bins, sqrt(float(p @ (surprise - nats) ** 2) / of.count), 0.0)


def _histogram(of: Sketch, edges: Int[np.ndarray, " J"], bins: str) -> Histogram:
    below = of.counts_below(edges)
    counts, ends = np.diff(below), lattice_values(edges)
    outside = int(below[0]), of.count - int(below[-1])
    return Histogram(bins, tuple(ends.tolist()), tuple(counts.tolist()), *outside, of.nans, of.infs)


def _std_edges(of: Sketch) -> tuple[Int[np.ndarray, " J"], str]:
    """Edges that cover all values, in words as well; their width in std is Scott's, at least 0.05."""
    width = max(3.49 * of.count ** (-1 / 3), 0.05)
    words = f"{width:.3g} std wide within {width * _UNIFORM_BINS / 2:.3g} std of the mean, bfloat16 cells beyond"
    return _edges(of, of.mean, width * of.std), words


def _edges(of: Sketch, centre: float, width: float) -> Int[np.ndarray, " J"]:
    """256 uniform bins, one around `centre`; beyond them every occupied cell is a bin of its own."""
    half = _UNIFORM_BINS // 2
    uniform = nearest_cells(centre + width * (np.arange(-half, half + 1) + 0.5))
    outside = of.cells[(of.cells < uniform[0]) | (of.cells >= uniform[-1])]
    return np.unique(np.concatenate([uniform, outside, outside + 1]))


def _log_normal_mass(z: Float[np.ndarray, " J"]) -> Float[np.ndarray, " J-1"]:
    """log(Phi(z[i+1]) - Phi(z[i])) without underflow: from whichever tail is nearer."""
    from scipy.special import log_ndtr

    mirrored = z[:-1] > 0
    left, right = np.where(mirrored, -z[1:], z[:-1]), np.where(mirrored, -z[:-1], z[1:])
    upper, lower = log_ndtr(right), log_ndtr(left)
    mass: np.ndarray = upper + np.log(np.maximum(-np.expm1(lower - upper), 1e-300))
    return mass
