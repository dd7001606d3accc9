"""What one pass over a tensor keeps: exact counts on a fixed lattice of values, exact moments, what is not a number.

The lattice is that of bfloat16: the upper 16 bits of a float32, 128 cells per octave and sign, so every finite value
lies in a cell no wider than 1/128 of its magnitude. One `bincount` per chunk fills it, whatever the values are: zero,
tiny and huge tensors need no range to be known beforehand. Every histogram, quantile and entropy is read off the counts
afterwards, on edges that are lattice points, and is exact for those edges. Sketches add up like the tensors they came
from: over chunks, blocks, or files.

Values that cluster far from 0 (|mean| > 10 std) are the lattice's weak side: moments stay exact, shapes do not.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import pairwise
from math import ceil, inf, isfinite, nan, sqrt

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64, Int
from torch import Tensor

CHUNK_ELEMENTS = 1 << 18
"""1 MiB of float32: chunk and scratch stay in the cache of one core."""
_SIGN = 1 << 15
_LARGEST = float(np.finfo(np.float32).max)
LAST_EDGE = 0x7F80
"""Index of the end of the last cell, 2^128."""
Times = Float64[Tensor, " n"] | None
"""How often each value occurs, whole numbers; None: once each."""


@dataclass(frozen=True, slots=True, eq=False)
class Sketch:
    """Counts and moments of a multiset of numbers. `a + b` is the sketch of both together; `Sketch()` is the empty one.

    Cell k >= 0 holds [edge(k), edge(k + 1)), cell k < 0 holds (edge(k), edge(k + 1)]; +0 lies in cell 0, -0 in cell -1.
    """

    count: int = 0
    """Finite elements; all fields below but `nans` and `infs` are about these."""
    nans: int = 0
    infs: int = 0
    zeros: int = 0
    """Exact zeros of either sign."""
    low: float = inf
    high: float = -inf
    mean: float = 0.0
    m2: float = 0.0
    """Sum of (x - mean)^2; likewise m3 and m4."""
    m3: float = 0.0
    m4: float = 0.0
    cells: Int[np.ndarray, " K"] = field(default_factory=lambda: np.zeros(0, np.int64))
    """Indices of the occupied cells, ascending."""
    counts: Int[np.ndarray, " K"] = field(default_factory=lambda: np.zeros(0, np.int64))

    @property
    def std(self) -> float:
        """Population standard deviation (over n), 0 for the empty sketch."""
        return float(np.sqrt(self.m2 / self.count)) if self.count else 0.0

    def __add__(self, other: "Sketch") -> "Sketch":
        """Exact for all counts; moments by the pairwise update of central sums. Source: Pébay 2008, equations 3.1."""
        if not self.count or not other.count:
            kept, gone = (other, self) if not self.count else (self, other)
            return replace(kept, nans=kept.nans + gone.nans, infs=kept.infs + gone.infs)
        cells, where = np.unique(np.concatenate([self.cells, other.cells]), return_inverse=True)
        counts = np.zeros(len(cells), dtype=np.int64)
        np.add.at(counts, where, np.concatenate([self.counts, other.counts]))
        return Sketch(
            self.count + other.count,
            self.nans + other.nans,
            self.infs + other.infs,
            self.zeros + other.zeros,
            min(self.low, other.low),
            max(self.high, other.high),
            *_merged_moments(self, other),
            cells,
            counts,
        )

    def counts_below(self, edges: Int[np.ndarray, " J"]) -> Int[np.ndarray, " J"]:
        """How many elements lie below each lattice edge, given by its cell index."""
        cumulative = np.zeros(len(self.counts) + 1, np.int64)
        np.cumsum(self.counts, out=cumulative[1:])
        below: np.ndarray = cumulative[self.cells.searchsorted(edges)]
        return below

    def counts_between(self, edges: Int[np.ndarray, " J"]) -> Int[np.ndarray, " J-1"]:
        """How many elements lie between consecutive lattice edges, given by ascending cell index."""
        return np.diff(self.counts_below(edges))

    def quantiles(self, levels: Float[np.ndarray, " Q"]) -> Float[np.ndarray, " Q"]:
        """Quantiles, linear within a cell: off by at most one cell, 1/128 of the value; `nan` for the empty sketch."""
        if not self.count:
            return np.full(len(levels), np.nan)
        cumulative = np.cumsum(self.counts)
        target = np.asarray(levels) * self.count
        at = np.minimum(np.searchsorted(cumulative, target), len(cumulative) - 1)
        within = 1 - (cumulative[at] - target) / self.counts[at]
        left, right = lattice_values(self.cells[at]), lattice_values(self.cells[at] + 1)
        values: np.ndarray = np.clip(left + within * (right - left), self.low, self.high)
        return values


def merged(sketches: Sequence[Sketch]) -> Sketch:
    """The sketch of all of them together, as their sum is, in one pass."""
    nans, infs = sum(one.nans for one in sketches), sum(one.infs for one in sketches)
    full = [one for one in sketches if one.count]
    if not full:
        return Sketch(nans=nans, infs=infs)
    n, means, *sums = np.array([(one.count, one.mean, one.m2, one.m3, one.m4) for one in full]).T
    mean = means[0] + n @ (means - means[0]) / n.sum()  # exact where all are alike
    d, (s2, s3, s4) = means - mean, sums
    m2, m3 = s2 + n * d**2, s3 + 3 * d * s2 + n * d**3
    m4 = s4 + 4 * d * s3 + 6 * d**2 * s2 + n * d**4
    cells, counts = (np.concatenate([getattr(one, name) for one in full]) for name in ("cells", "counts"))
    tally = np.bincount(cells + _SIGN, counts, 2 * _SIGN)
    occupied = np.flatnonzero(tally > 0)
    return Sketch(
        sum(one.count for one in full), nans, infs, sum(one.zeros for one in full), min(one.low for one in full),
        max(one.high for one in full), float(mean), float(m2.sum()), float(m3.sum()), float(m4.sum()),
        occupied - _SIGN, tally[occupied].astype(np.int64),
    )  # fmt: skip


def resized(of: Sketch, elements: int) -> Sketch:
    """So many elements distributed alike: counts are rounded, mean, skewness and the like are the same."""
    share = elements / max(1, of.count + of.nans + of.infs)
    counts = np.diff(np.rint(np.cumsum(of.counts) * share).astype(np.int64), prepend=0)
    count, occupied = int(counts.sum()), counts > 0
    m2, m3, m4 = (power * count / max(1, of.count) for power in (of.m2, of.m3, of.m4))
    return Sketch(
        count, ceil(of.nans * share), ceil(of.infs * share), round(of.zeros * share), of.low, of.high, of.mean,
        m2, m3, m4, of.cells[occupied], counts[occupied],
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Moments:
    """Moments of the finite elements, over n (not n - 1); undefined ones are None."""

    elements: int
    nans: int
    infs: int
    zeros: int
    """Exact zeros."""
    mean: float | None
    std: float | None
    skewness: float | None
    """E (x - mean)^3 / std^3."""
    excess_kurtosis: float | None
    """E (x - mean)^4 / std^4 - 3: 0 for a Gaussian."""
    low: float | None
    high: float | None

    @property
    def zero_share(self) -> float:
        """Share of exact zeros among all elements."""
        return self.zeros / self.elements if self.elements else 0.0


def sketch(values: Float[Tensor, "..."]) -> Sketch:
    """The sketch of a tensor of any shape, device and floating dtype.

    Values are read as float32: a float64 beyond its range counts as infinite, one below as zero.
    """
    return sketch_chunks(torch.split(values.detach().cpu().reshape(-1), CHUNK_ELEMENTS))


def sketches(rows: Float[Tensor, "rows n"]) -> list[Sketch]:
    """The sketch of every row, as `sketch` gives it; some at once: of a short row asking takes longer than counting."""
    some = max(1, min(32, CHUNK_ELEMENTS // 2 // max(1, rows.shape[1])))  # more would cost fresh pages
    return [one for part in torch.split(rows.detach().cpu(), some) for one in _sketches(part.float().contiguous())]


def _sketches(rows: Float32[Tensor, "rows n"]) -> list[Sketch]:
    low, high = (rows.amin(1), rows.amax(1)) if rows.numel() else torch.full((2, 1), nan)
    if not (low.isfinite() & high.isfinite()).all():
        return [sketch(row) for row in rows]
    pivots = torch.where((low <= 0) & (high >= 0), 0.0, rows[:, 0]).double()
    deviation = rows.double().sub_(pivots[:, None])
    square = deviation * deviation
    powers = (
        deviation.sum(1),
        square.sum(1),
        torch.linalg.vecdot(deviation, square),
        torch.linalg.vecdot(square, square),
    )
    moments = _central(torch.stack(powers).numpy(), rows.shape[1], pivots.numpy()).T.tolist()
    found = zip((rows == 0).sum(1).tolist(), low.tolist(), high.tolist(), moments, _tallies(rows), strict=True)
    return [
        Sketch(rows.shape[1], 0, 0, zeros, least, most, mean, m2, m3, m4, *tally)
        for zeros, least, most, (mean, m2, m3, m4), tally in found
    ]


def _tallies(rows: Float32[Tensor, "rows n"]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The cells of every row of finite numbers, ascending, and their counts.

    Counted from the least magnitude of all on: the cells of a row are a few thousand then.
    """
    bits = rows.view(torch.int32)
    magnitudes = (bits >> 16).bitwise_and_(_SIGN - 1)
    least, most = (int(end) for end in torch.aminmax(magnitudes))
    side = most - least + 1
    codes = magnitudes.sub_(least).bitwise_xor_(bits >> 31)  # -1 - x of a negative one
    codes += torch.arange(side, 2 * side * len(rows), 2 * side, dtype=torch.int32)[:, None]
    tally = codes.flatten().bincount(minlength=2 * side * len(rows)).numpy()
    at = np.flatnonzero(tally > 0)  # of booleans: many times faster than of integers
    cells = at % (2 * side) - side
    cells, counts = np.where(cells < 0, cells - least, cells + least), tally[at]
    ends = np.searchsorted(at, np.arange(0, 2 * side * len(rows) + 1, 2 * side)).tolist()
    return ((cells[start:end], counts[start:end]) for start, end in pairwise(ends))


def sketch_chunks(chunks: Iterable[Tensor]) -> Sketch:
    """The sketch of a stream of flat chunks of at most `CHUNK_ELEMENTS`; each is read before the next is asked for."""
    total, by_code = _Sums(), None
    for values, times in counted(chunks):
        numbers, times = total.take_strays(values, times)
        if numbers.numel():
            total.add(numbers, times)
            upper = np.right_shift(numbers.numpy().view(np.uint32), 16)  # positive ones first, each sign by magnitude
            new = torch.bincount(torch.from_numpy(upper.view(np.int32)), times, 2 * _SIGN).long().numpy()
            if new[0] or new[_SIGN]:  # the cells of zero hold denormals as well
                total.zeros += number_of(numbers == 0, times)
            by_code = new if by_code is None else np.add(by_code, new, out=by_code)
    if by_code is None:
        return Sketch(nans=total.nans, infs=total.infs)
    mean, m2, m3, m4 = _central(total.powers, total.count, np.array(total.pivot)).tolist()
    codes = np.flatnonzero(by_code > 0)  # of booleans: many times faster than of integers
    counts = by_code[codes]
    cut = int(np.searchsorted(codes, _SIGN))
    cells = np.concatenate([_SIGN - 1 - codes[cut:][::-1], codes[:cut]])
    counts = np.concatenate([counts[cut:][::-1], counts[:cut]])
    return Sketch(
        total.count, total.nans, total.infs, total.zeros, total.low, total.high, mean, m2, m3, m4, cells, counts
    )  # fmt: skip


def counted(chunks: Iterable[Tensor]) -> Iterator[tuple[Float32[Tensor, " n"], Times]]:
    """The values of a stream of flat chunks: chunk by chunk, but of a type of 16 bits each number that occurs once."""
    codes: dict[torch.dtype, Tensor] = {}
    for chunk in chunks:
        chunk = chunk.cpu()
        if chunk.itemsize == 2:
            patterns = chunk.view(torch.int16).int().bitwise_and_(2 * _SIGN - 1)
            codes[chunk.dtype] = patterns.bincount(minlength=2 * _SIGN) + codes.get(chunk.dtype, 0)
        else:
            yield chunk.float(), None
    for dtype, tally in codes.items():
        occurring = tally.nonzero().flatten()
        yield numbers_of(dtype)[occurring], tally[occurring].double()


def number_of(those: Bool[Tensor, " n"], times: Times) -> int:
    """How many elements those are, where each occurs so many times."""
    return int(those.count_nonzero() if times is None else times[those].sum())


@cache
def numbers_of(dtype: torch.dtype) -> Float32[Tensor, " codes"]:
    """The number that each bit pattern of a type of 8 or 16 bits is."""
    patterns = torch.arange(1 << 8 * dtype.itemsize)
    return patterns.to(torch.uint8 if dtype.itemsize == 1 else torch.int16).view(dtype).float()


def moments(of: Sketch) -> Moments:
    """Moments of a sketch, exact in float64."""
    elements = of.count + of.nans + of.infs
    if not of.count:
        return Moments(elements, of.nans, of.infs, 0, None, None, None, None, None, None)
    variance = of.m2 / of.count
    skewness = of.m3 / of.count / variance / sqrt(variance) if variance else None
    kurtosis = of.m4 / of.count / variance / variance - 3 if variance else None
    return Moments(elements, of.nans, of.infs, of.zeros, of.mean, sqrt(variance), skewness, kurtosis, of.low, of.high)


def lattice_values(cells: Int[np.ndarray, " J"]) -> Float[np.ndarray, " J"]:
    """The lower edge of each cell, `edge(k)`."""
    magnitude = np.minimum(np.abs(cells), LAST_EDGE).astype(np.uint32)
    values = (magnitude << np.uint32(16)).view(np.float32).astype(np.float64)
    values[magnitude == LAST_EDGE] = 2.0**128
    signed: np.ndarray = np.sign(cells) * values
    return signed


def nearest_cells(values: Float[np.ndarray, " J"]) -> Int[np.ndarray, " J"]:
    """The index of the lattice point nearest to each finite value; the inverse of `lattice_values`."""
    single = np.clip(values, -_LARGEST, _LARGEST).astype(np.float32)
    bits = np.abs(single).view(np.uint32).astype(np.int64)
    cells: np.ndarray = np.sign(single).astype(np.int64) * ((bits + (1 << 15)) >> 16)
    return cells


@dataclass(slots=True)
class _Sums:
    """Running sums over chunks: powers of (x - pivot) in float64, extremes, and what is not finite."""

    count: int = 0
    nans: int = 0
    infs: int = 0
    zeros: int = 0
    low: float = inf
    high: float = -inf
    pivot: float = 0.0
    powers: Float[np.ndarray, "4"] = field(default_factory=lambda: np.zeros(4))
    scratch: Tensor = field(default_factory=lambda: torch.empty(2, 0, dtype=torch.float64))

    def take_strays(self, values: Tensor, times: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Count and remove NaN and infinities; the extremes, needed anyway, tell whether there are any."""
        low, high = (float(extreme) for extreme in torch.aminmax(values)) if values.numel() else (inf, -inf)
        if values.numel() and not (isfinite(low) and isfinite(high)):
            finite, nans = values.isfinite(), number_of(values.isnan(), times)
            self.nans += nans
            self.infs += number_of(~finite, times) - nans
            return self.take_strays(values[finite], None if times is None else times[finite])
        self.low, self.high = min(self.low, low), max(self.high, high)
        return values, times

    def add(self, numbers: Tensor, times: Times) -> None:
        if not self.count and not self.low <= 0 <= self.high:
            self.pivot = float(numbers[0])  # one of the values: a constant tensor has a std of exactly 0
        if self.scratch.shape[1] < numbers.numel():
            self.scratch = torch.empty(2, numbers.numel(), dtype=torch.float64)  # fresh pages would cost more than sums
        deviation, square = self.scratch[:, : numbers.numel()]
        deviation.copy_(numbers)
        if self.pivot:
            deviation.sub_(self.pivot)
        torch.mul(deviation, deviation, out=square)
        if times is None:
            self.count += numbers.numel()
            sums = deviation.sum(), square.sum(), torch.dot(deviation, square), torch.dot(square, square)
        else:
            self.count += int(times.sum())
            weighed = times * square
            sums = times.dot(deviation), weighed.sum(), weighed.dot(deviation), weighed.dot(square)
        self.powers += [float(power) for power in sums]


def _central(
    powers: Float64[np.ndarray, "4 *rows"], count: int, pivot: Float64[np.ndarray, "*rows"]
) -> Float64[np.ndarray, "4 *rows"]:
    """Mean and central sums from the sums of powers about a pivot."""
    s1, s2, s3, s4 = powers
    d = s1 / count
    m2 = np.maximum(s2 - count * d**2, 0.0)
    m3 = s3 - 3 * d * s2 + 2 * count * d**3
    m4 = np.maximum(s4 - 4 * d * s3 + 6 * d**2 * s2 - 3 * count * d**4, 0.0)
    return np.stack([pivot + d, m2, m3, m4])


def _merged_moments(a: Sketch, b: Sketch) -> tuple[float, float, float, float]:
    n, d = a.count + b.count, b.mean - a.mean
    fa, fb = a.count / n, b.count / n
    mean = fa * a.mean + fb * b.mean if a.mean != b.mean else a.mean
    m2 = a.m2 + b.m2 + d**2 * n * fa * fb
    m3 = a.m3 + b.m3 + d**3 * n * fa * fb * (fa - fb) + 3 * d * (fa * b.m2 - fb * a.m2)
    m4 = (
        a.m4 + b.m4 + d**4 * n * fa * fb * (fa**2 - fa * fb + fb**2)
        + 6 * d**2 * (fa**2 * b.m2 + fb**2 * a.m2) + 4 * d * (fa * b.m3 - fb * a.m3)
    )  # fmt: skip
    return mean, m2, m3, m4
