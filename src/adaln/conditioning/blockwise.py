"""adaLN-Gaussian block by block: the paper's polynomials of histogram peaks over 28 blocks (A.11)."""

from collections.abc import Sequence
from functools import reduce

from adaln.conditioning.distributions import Normal
from adaln.conditioning.scheme_row import Scheme, Start, Starts

# A.11, highest power of the block index first, and the mean peaks over blocks that normalise them.
PEAK_ALPHA = (
    *(-2.49635921e-6, 1.24680129e-4, 1.17149262e-3, -1.70585560e-1),
    *(3.63484494, -2.94971466e1, 6.74700382e1, 4.85897902e2),
)
PEAK_GAMMA = (-2.46024908e-4, 2.39970674e-2, -8.67912602e-1, 1.45429227e1, -1.08645122e2, 4.11540316e2)
PEAK_BETA = (-1.21059796e-4, 1.09417700e-2, -3.25623123e-1, 4.15804173, -2.00345083e1, 4.20334676e2)
MEAN_PEAK_ALPHA, PRINTED_MEAN_PEAK_GAMMA, PRINTED_MEAN_PEAK_BETA = 449.9321, 444.8248, 175.0044
PUBLISHED_BLOCKS = 28


def blockwise(reading: str, half: bool) -> Scheme:
    """A.11: std(L) = base / (P(L) / mean P) in block L, as a high histogram peak asks for a narrow start.

    The printed normalisers of gamma and beta are exchanged against their polynomials' means (175.8 and 434.0 over 28
    blocks): `consistent` uses each polynomial's own, `as-printed` the paper's equations to the letter.
    """
    peaks = (PRINTED_MEAN_PEAK_BETA, PRINTED_MEAN_PEAK_GAMMA)
    gamma_peak, beta_peak = peaks if reading == "consistent" else peaks[::-1]
    per_block = [
        tuple(Start(Normal(base * peak / _polynomial(coefficients, block))) for block in range(PUBLISHED_BLOCKS))
        for base, coefficients, peak in (
            (8e-4, PEAK_ALPHA, MEAN_PEAK_ALPHA),
            (1.2e-3, PEAK_GAMMA, gamma_peak),
            (8e-4, PEAK_BETA, beta_peak),
        )
    ]
    name = "adaln-gaussian-blockwise" + "-half" * half + ("" if reading == "consistent" else "-as-printed")
    gate: Starts = Start(Normal(8e-4)) if half else per_block[0]
    note = f"A.11 {reading}, 28 blocks"
    return Scheme(name, gate, per_block[1], per_block[2], note=note)


def _polynomial(coefficients: Sequence[float], x: float) -> float:
    """By Horner's rule, highest power first."""
    return reduce(lambda value, coefficient: value * x + coefficient, coefficients, 0.0)
