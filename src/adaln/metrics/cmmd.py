"""CMMD's formula: the maximum mean discrepancy of two sets of features under a Gaussian kernel of fixed width."""

import torch
from jaxtyping import Float32, Float64
from torch import Tensor

from adaln.metrics.intervals import ScoreInterval, around
from adaln.metrics.precision_recall import ROWS, centred, exact_blocks

SIGMA, SCALE = 10.0, 1000.0
"""The published width and factor."""


def gaussian_mmd(reference: Float32[Tensor, "M F"], samples: Float32[Tensor, "N F"]) -> tuple[float, ScoreInterval]:
    """`1000 (mean k(x, x') + mean k(y, y') - 2 mean k(x, y))` for `k = exp(-|x - y|^2 / 200)`, all pairs; its interval.

    Biased, as published: of N images 1 / N of the pairs are an image and itself. The features are taken as they are;
    published values are of CLIP's, each divided by its norm. The interval is the infinitesimal jackknife, from the mean
    kernel of each sample with either side.

    Source: Jayasumana et al., "Rethinking FID: towards a better evaluation metric for image generation" (2024).
    """
    reference, samples = centred(reference, samples)
    own, across = _mean_kernels(samples), _mean_kernels(samples, reference)
    value = SCALE * float(own.mean() + _mean_kernels(reference).mean() - 2 * across.mean())
    std = float(2 * SCALE * (own - across).std() / len(samples) ** 0.5)
    return value, around(value, std, "infinitesimal jackknife, reference fixed")


def _mean_kernels(rows: Float32[Tensor, "N F"], columns: Float32[Tensor, "M F"] | None = None) -> Float64[Tensor, "N"]:
    """Of each row the mean kernel with all columns, less 1: kernels are near 1, where float32 would round them off.

    Without columns they are the rows; of each pair one kernel is computed.
    """
    sums = torch.zeros(len(rows), dtype=torch.float64)
    for start in range(0, len(rows), ROWS):
        part = rows[start : start + ROWS]
        [(_, block)] = exact_blocks(part, rows[start:] if columns is None else columns)
        if columns is None:
            block.diagonal().zero_()  # of an image and itself, which rounding may leave apart
        block.mul_(-0.5 / SIGMA**2).expm1_()
        sums[start : start + ROWS] += block.sum(dim=1, dtype=torch.float64)
        if columns is None:
            sums[start + ROWS :] += block[:, ROWS:].sum(dim=0, dtype=torch.float64)
    return sums / len(rows if columns is None else columns)
