"""Mean and covariance of features, streamed over batches and merged over processes, in float64."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Gaussian:
    """What a Frechet distance knows of a feature distribution."""

    mean: Float64[Tensor, "F"]
    covariance: Float64[Tensor, "F F"]
    """Unbiased: divided by N - 1."""


@dataclass(slots=True, eq=False)
class Moments:
    """Count, mean and scatter `sum (x - mean)(x - mean)^T` of the rows seen so far.

    Any split into batches and any order of merging give the same numbers to rounding: the scatter is always centred
    on the mean of its own rows, never formed as `E[x x^T] - mean mean^T`.

    Source: Chan, Golub & LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances" (1979).
    """

    count: int
    mean: Float64[Tensor, "F"]
    scatter: Float64[Tensor, "F F"]

    @classmethod
    def empty(cls, dim: int, device: torch.device | str = "cpu") -> "Moments":
        """The moments of no rows; the neutral element of `merge`."""
        return cls(
            0,
            torch.zeros(dim, dtype=torch.float64, device=device),
            torch.zeros(dim, dim, dtype=torch.float64, device=device),
        )

    @classmethod
    def of(cls, rows: Float[Tensor, "N F"]) -> "Moments":
        """The moments of `rows`."""
        moments = cls.empty(rows.shape[1], rows.device)
        moments.update(rows)
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
        rows = torch.cat([rows - mean, between[None]])
        self.scatter.addmm_(rows.T, rows)
        self.mean = self.mean + shift * (count / total)
        self.count = total

    def merge(self, other: "Moments") -> "Moments":
        """The moments of both sets of rows."""
        total = self.count + other.count
        if not total:
            return self
        shift = other.mean - self.mean
        between = torch.outer(shift, shift) * (self.count * other.count / total)
        mean = self.mean + shift * (other.count / total)
        return Moments(total, mean, self.scatter + other.scatter + between)

    def gaussian(self) -> Gaussian:
        """Mean and unbiased covariance; raises below two rows, where the covariance does not exist."""
        if self.count < 2:
            raise ValueError(f"a covariance needs at least 2 images, got {self.count}")
        return Gaussian(self.mean, self.scatter / (self.count - 1))


def moments_of(batches: Iterable[Float[Tensor, "_ F"]], dim: int) -> Moments:
    """The moments of a stream of batches, of which only one is in memory."""
    moments = Moments.empty(dim)
    for batch in batches:
        moments.update(batch)
    return moments
