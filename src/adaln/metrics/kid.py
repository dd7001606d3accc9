"""The Kernel Inception Distance: a maximum mean discrepancy that is unbiased at any number of images."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

SUBSETS, SUBSET_SIZE = 100, 1000


@dataclass(frozen=True, slots=True)
class KernelDistance:
    """Mean over subsets, with the spread that the full set would show."""

    value: float
    std: float
    """Standard error: the spread over subsets of m rows, scaled by sqrt(m / n) to all n samples."""
    subset_size: int


def kernel_distance(
    reference: Float[Tensor, "M F"],
    samples: Float[Tensor, "N F"],
    rng: torch.Generator,
    subsets: int = SUBSETS,
    subset_size: int = SUBSET_SIZE,
) -> KernelDistance:
    """Unbiased squared MMD under the kernel `(x.y / F + 1)^3`, averaged over random subsets of both sets.

    Subsets are drawn without replacement and hold `subset_size` rows, or half of the smaller set where that is less
    (else all subsets would be the same and their spread would say nothing). Can be negative near 0.

    Source: Binkowski et al., "Demystifying MMD GANs" (2018), section 4.
    """
    smaller = min(len(reference), len(samples))
    size = min(subset_size, smaller // 2)
    if size < 2:
        raise ValueError(f"KID needs at least 4 images a side, got {len(samples)} and {len(reference)}")
    values = []
    for _ in range(subsets):
        x = reference[torch.randperm(len(reference), generator=rng)[:size]].to(torch.float64)
        y = samples[torch.randperm(len(samples), generator=rng)[:size]].to(torch.float64)
        values.append(squared_mmd(x, y))
    distances = torch.stack(values)
    return KernelDistance(float(distances.mean()), float(distances.std() * (size / smaller) ** 0.5), size)


def squared_mmd(x: Float64[Tensor, "M F"], y: Float64[Tensor, "N F"]) -> Float64[Tensor, ""]:
    """`mean_{i != j} k(x_i, x_j) + mean_{i != j} k(y_i, y_j) - 2 mean k(x_i, y_j)`."""
    within = _mean_off_diagonal(_kernel(x, x)) + _mean_off_diagonal(_kernel(y, y))
    return within - 2 * _kernel(x, y).mean()


def _kernel(x: Float64[Tensor, "M F"], y: Float64[Tensor, "N F"]) -> Float64[Tensor, "M N"]:
    return (x @ y.T / x.shape[1] + 1) ** 3


def _mean_off_diagonal(kernel: Float64[Tensor, "N N"]) -> Float64[Tensor, ""]:
    count = len(kernel)
    return (kernel.sum() - kernel.trace()) / (count * (count - 1))
