"""The Frechet distance between two sets of features: their means and covariances, streamed over batches in float64, and
the distance between the Gaussians of these, by symmetric eigenvalues instead of a matrix square root."""

from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from adaln.metrics.intervals import ScoreInterval, around, resampling_weights

RESIDUAL_LIMIT = 1e-9
"""Largest relative defect of the trace identities that is still rounding (about 1e-13 is usual at 2048 dimensions)."""
ROUNDING = 1e-5
"""Of a covariance that somebody stored, what single precision and another program's sums leave: how far it may be from
symmetric, by its largest entry, and from positive, by its largest eigenvalue."""
BOOTSTRAP_DIM = 128
"""Above this many features a bootstrap replicate costs too much; the infinitesimal jackknife does not."""
BOOTSTRAP_ROWS = 1024
"""Rows whose pairs of features are in memory at once: 68 MB of them at most."""
MOMENT_ROWS = 4096
"""Rows that are in memory in float64 at once: 67 MB of Inception's."""
INFLUENCE_ROWS = 10_000
"""Rows on which a standard error is taken, drawn at random: it is known to a percent or two."""


@dataclass(frozen=True, slots=True, eq=False)
class Gaussian:
    """What a Frechet distance knows of a feature distribution."""

    mean: Float64[Tensor, "F"]
    covariance: Float64[Tensor, "F F"]
    """Unbiased: divided by N - 1."""


@dataclass(slots=True, eq=False)
class FeatureMoments:
    """Count, mean and scatter `sum (x - mean)(x - mean)^T` of the rows seen so far.

    Any split into batches and any order of them give the same numbers to rounding: the scatter is always centred on
    the mean of its own rows, never formed as `E[x x^T] - mean mean^T`.

    Source: Chan, Golub & LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances" (1979).
    """

    count: int
    mean: Float64[Tensor, "F"]
    scatter: Float64[Tensor, "F F"]
    """Its lower triangle; above the diagonal nothing is promised."""

    @classmethod
    def empty(cls, dim: int, device: torch.device | str = "cpu") -> "FeatureMoments":
        """The moments of no rows."""
        return cls(
            0,
            torch.zeros(dim, dtype=torch.float64, device=device),
            torch.zeros(dim, dim, dtype=torch.float64, device=device),
        )

    @classmethod
    def of(cls, rows: Float[Tensor, "N F"]) -> "FeatureMoments":
        """The moments of `rows`."""
        moments = cls.empty(rows.shape[1], rows.device)
        for part in torch.split(rows, MOMENT_ROWS):
            moments.update(part)
        return moments

    def update(self, rows: Float[Tensor, "N F"]) -> None:
        """Take in a batch: one product of the batch with itself, with the shift of the mean as one more row."""
        count = len(rows)
        if not count:
            return
        rows = rows.to(torch.float64)
        mean = rows.mean(dim=0)
        shift, total = mean - self.mean, self.count + count
        # n m / (n + m) shift shift^T is one more outer product: no second pass over the scatter
        between = shift * (self.count * count / total) ** 0.5
        _add_products(self.scatter, torch.cat([rows - mean, between[None]]))
        self.mean = self.mean + shift * (count / total)
        self.count = total

    def gaussian(self) -> Gaussian:
        """Mean and unbiased covariance; raises below two rows, where the covariance does not exist."""
        if self.count < 2:
            raise ValueError(f"a covariance needs at least 2 images, got {self.count}")
        scatter = self.scatter.tril()
        return Gaussian(self.mean, (scatter + scatter.tril(-1).T) / (self.count - 1))


def _add_products(scatter: Float64[Tensor, "F F"], rows: Float64[Tensor, "N F"]) -> None:
    """Add `rows^T rows` to the lower triangle; on a CPU that alone is computed."""
    if scatter.device.type != "cpu":
        scatter.addmm_(rows.T, rows)
        return
    from scipy.linalg import blas

    blas.dsyrk(1.0, rows.numpy().T, 1.0, scatter.numpy().T, overwrite_c=1)  # Fortran's upper triangle is our lower


@dataclass(frozen=True, slots=True)
class FrechetDistance:
    """A squared Frechet (Wasserstein-2) distance and how well it is known."""

    value: float
    """`mean_term + tr A + tr B - 2 tr (A B)^(1/2)`. Not clamped: equal Gaussians may give -1e-10."""
    mean_term: float
    ranks: tuple[int, int]
    """Numerical ranks of the two covariances; below the dimension they are singular, which is no special case here."""
    residual: float
    """Largest relative defect of the three trace identities that the factorisations must satisfy."""
    slack: float
    """Upper bound on what cutting the covariances at their numerical ranks can have added to `value`."""


def frechet_distance(a: Gaussian, b: Gaussian) -> FrechetDistance:
    """The squared Frechet distance `|m_a - m_b|^2 + tr A + tr B - 2 tr (A B)^(1/2)`.

    With `A = L L^T` and `B = K K^T` (pivoted Cholesky, cut at the numerical rank) the last trace is the sum of the
    singular values of `W = L^T K`: the square roots of the eigenvalues of the smaller of `W W^T` and `W^T W`, which is
    symmetric and, because the null spaces were cut away first, has no zero eigenvalue whose root would be noise.
    Singular covariances (fewer images than dimensions, dead features) therefore need no shift by `eps I`.

    What was cut has traces `e_a`, `e_b`; it changes the trace by at most `sqrt(e_a tr B) + sqrt(e_b tr A)`.
    Raises ValueError on non-finite input and where a factorisation fails its trace identity: no covariance goes in, or
    numbers too large for their products.

    Source: Heusel et al., "GANs trained by a two time-scale update rule converge to a local Nash equilibrium" (2017),
    eq. 6; Rotfel'd's inequality `tr (X + Y)^(1/2) <= tr X^(1/2) + tr Y^(1/2)` for the bound.
    """
    _check(a, b)
    left, right = _factored(a.covariance), _factored(b.covariance)
    cross = left.factor.T @ right.factor
    if not torch.isfinite(cross).all():
        raise ValueError("Frechet distance: features too large for their products, expected finite numbers")
    eigenvalues = torch.linalg.eigvalsh(cross @ cross.T if cross.shape[0] <= cross.shape[1] else cross.T @ cross)
    product_trace = float((a.covariance * b.covariance).sum())
    norms = float(a.covariance.norm() * b.covariance.norm())
    residual = max(left.residual, right.residual, _relative(float(eigenvalues.sum()) - product_trace, norms))
    if not residual <= RESIDUAL_LIMIT:
        raise ValueError(
            f"Frechet distance: trace identities off by {residual:.1e}, expected the rounding of two covariances"
        )
    mean_term = float((a.mean - b.mean).square().sum())
    return FrechetDistance(
        value=mean_term + left.trace + right.trace - 2 * float(eigenvalues.clamp(min=0).sqrt().sum()),
        mean_term=mean_term,
        ranks=(left.factor.shape[1], right.factor.shape[1]),
        residual=residual,
        slack=2 * (left.cut * right.trace) ** 0.5 + 2 * (right.cut * left.trace) ** 0.5,
    )


def pivoted_cholesky(matrix: Float64[Tensor, "F F"]) -> Float64[Tensor, "F R"]:
    """`L` with `L L^T = matrix` and as many columns as the matrix has numerical rank.

    Stops at the first pivot below `F eps max diag`, LAPACK's default.
    """
    from scipy.linalg import lapack

    packed, pivots, rank, _ = lapack.dpstrf(matrix.cpu().numpy(), lower=1)
    factor = torch.from_numpy(packed).tril_()[:, :rank]
    result = torch.empty_like(factor)
    result[torch.from_numpy(pivots).long() - 1] = factor
    return result.to(matrix.device)


def as_covariance(matrix: Float64[Tensor, "F F"]) -> Float64[Tensor, "F F"]:
    """The covariance that a stored matrix is up to `ROUNDING`; itself, where it is one in float64.

    Raises ValueError for what is none: not finite, not symmetric, or with a negative direction.
    """
    if not torch.isfinite(matrix).all():
        raise ValueError("has NaN or infinite entries")
    largest = float(matrix.abs().max())
    asymmetry = _relative(float((matrix - matrix.T).abs().max()), largest)
    if asymmetry > 1.01 * ROUNDING:
        raise ValueError(f"is not symmetric (by {asymmetry:.1g} of its largest entry), as a covariance is")
    if (lowest := float(matrix.diagonal().min())) < -ROUNDING * largest:
        raise ValueError(f"has the negative variance {lowest:.4g} on its diagonal")
    factor = pivoted_cholesky(matrix)
    if float((matrix - factor @ factor.T).abs().max()) <= RESIDUAL_LIMIT * largest:
        return matrix
    eigenvalues, vectors = torch.linalg.eigh((matrix + matrix.T) / 2)
    if eigenvalues[0] < -ROUNDING * eigenvalues[-1]:
        lowest, highest = float(eigenvalues[0]), float(eigenvalues[-1])
        raise ValueError(f"is no covariance: it has the eigenvalue {lowest:.4g} (the largest is {highest:.4g})")
    positive: Tensor = (vectors * eigenvalues.clamp(min=0)) @ vectors.T
    return positive


class _Factored(NamedTuple):
    """A covariance as `L L^T` plus what lies beyond its numerical rank."""

    factor: Float64[Tensor, "F R"]
    trace: float
    cut: float
    """Trace of what was cut (an upper bound: rounding counts as if it had been cut)."""
    residual: float
    """Relative defect of `tr A = tr L L^T`."""


def _factored(covariance: Float64[Tensor, "F F"]) -> _Factored:
    factor = pivoted_cholesky(covariance)
    left = covariance.diagonal() - factor.square().sum(dim=1)
    trace = float(covariance.trace())
    return _Factored(factor, trace, float(left.clamp(min=0).sum()), _relative(float(left.sum()), trace))


def frechet_influence(rows: Float[Tensor, "N F"], own: Gaussian, reference: Gaussian) -> Float64[Tensor, "N"]:
    """How the distance from the rows' `own` Gaussian to `reference` answers to the weight of each row; sums to 0.

    With `d = m - m_r`, `z = x - m`, `L L^T` the reference's covariance and `L^T S L = U diag(lambda) U^T`,

        I(x) = 2 d.z + |z|^2 - tr S - (|lambda^(-1/4) U^T L^T z|^2 - its mean),

    the first von Mises derivative (times N / (N - 1), which is left out). Its variance over N is that of the distance.
    """
    factor = pivoted_cholesky(reference.covariance)
    eigenvalues, vectors = torch.linalg.eigh(factor.T @ own.covariance @ factor)
    kept = eigenvalues > len(eigenvalues) * torch.finfo(torch.float64).eps * eigenvalues[-1]
    whitening = factor @ (vectors[:, kept] * eigenvalues[kept] ** -0.25)
    shift = own.mean - reference.mean
    parts = []
    for part in torch.split(rows, 4096):  # in pieces: the rows are float32, this algebra is float64
        centred = part.to(torch.float64) - own.mean
        cross = (centred @ whitening).square().sum(dim=1)
        parts.append(2 * centred @ shift + centred.square().sum(dim=1) - cross)
    influence = torch.cat(parts)
    return influence - influence.mean()


def frechet_interval(
    value: float, rows: Float[Tensor, "N F"], own: Gaussian, reference: Gaussian, replicates: int, rng: torch.Generator
) -> ScoreInterval:
    """The interval of a Frechet distance from the rows' `own` Gaussian to a reference that is held fixed.

    Up to 128 features by the bootstrap: each replicate reweights mean and covariance. Above, by the infinitesimal
    jackknife: the variance of the influence values over N, one pass over the rows; it misses the second-order part of
    the noise, which matters only where the distance is close to its own bias.
    """
    if rows.shape[1] > BOOTSTRAP_DIM:
        drawn = torch.randperm(len(rows), generator=rng)[:INFLUENCE_ROWS]
        influence = frechet_influence(rows[drawn], own, reference)
        return around(value, float(influence.std() / len(rows) ** 0.5), "infinitesimal jackknife, reference fixed")
    weights = resampling_weights(len(rows), replicates, rng)
    distances = weighted_distances(rows, own, weights, reference)
    return around(value, float(distances.std()), f"bootstrap of {replicates}, reference fixed")


def weighted_distances(
    rows: Float[Tensor, "N F"], own: Gaussian, weights: Float64[Tensor, "R N"], reference: Gaussian
) -> Float64[Tensor, "R"]:
    """The distance to `reference` from the mean and unbiased covariance of the rows under each row of weights.

    With z = x - `own`'s mean and w the weights, the covariance is sum w z z^T - d d^T for d = sum w z: a product of the
    weights with all pairs of features, in pieces of rows. For its trace of the root only L^T S L is needed, where
    L L^T is the reference's covariance: symmetric, so that what rounding leaves below 0 can be cut.
    """
    first, second = torch.triu_indices(rows.shape[1], rows.shape[1])
    shift, pairs = weights.new_zeros(len(weights), rows.shape[1]), weights.new_zeros(len(weights), len(first))
    for part, of_part in zip(
        torch.split(rows, BOOTSTRAP_ROWS), torch.split(weights, BOOTSTRAP_ROWS, dim=1), strict=True
    ):
        centred = part.to(torch.float64) - own.mean
        shift += of_part @ centred
        pairs += of_part @ (centred[:, first] * centred[:, second])
    covariances = weights.new_empty(len(weights), rows.shape[1], rows.shape[1])
    covariances[:, first, second] = covariances[:, second, first] = pairs
    covariances = (covariances - shift[:, :, None] * shift[:, None]) * (len(rows) / (len(rows) - 1))
    factor = pivoted_cholesky(reference.covariance)
    eigenvalues: Tensor = torch.linalg.eigvalsh(factor.T @ covariances @ factor)
    mean_terms = (own.mean + shift - reference.mean).square().sum(dim=1)
    traces = covariances.diagonal(dim1=1, dim2=2).sum(dim=1) + reference.covariance.trace()
    return mean_terms + traces - 2 * eigenvalues.clamp(min=0).sqrt().sum(dim=1)


def _check(a: Gaussian, b: Gaussian) -> None:
    if a.mean.shape != b.mean.shape:
        raise ValueError(f"Frechet distance between {len(a.mean)} and {len(b.mean)} features: expected equal numbers")
    for side, name in product((a, b), ("mean", "covariance")):
        if not torch.isfinite(getattr(side, name)).all():
            raise ValueError(f"Frechet distance: the {name} has NaN or infinite entries, expected finite features")


def _relative(defect: float, scale: float) -> float:
    return abs(defect) / scale if scale > 0 else abs(defect)
