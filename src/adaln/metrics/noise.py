"""What pictures of noise score: a precision that noise has as well says nothing of samples."""

import torch
from jaxtyping import Float32, UInt8
from torch import Tensor

from adaln.metrics.feature_statistics import Statistics
from adaln.metrics.features import Extractor
from adaln.metrics.precision_recall import precision_recall
from adaln.rng import generator

COUNT = 32
"""Pictures of noise: one of them in a ball is 3 %."""
MOST = 10_000
"""Images of a reference up to which its balls are found a second time; those of few images are the wide ones."""
TELLING = 0.05
"""A precision of noise from which a reader is told."""


def noise(shape: tuple[int, ...]) -> UInt8[Tensor, "32 C H W"]:
    """Pixels that know nothing of each other, each of any brightness."""
    return torch.randint(256, (COUNT, *shape), dtype=torch.uint8, generator=generator("noise"))


def noise_line(reference: Statistics, extractor: Extractor, batch_size: int) -> str:
    """One sentence where noise lies in the reference's manifold; nothing where it does not, or cannot be asked.

    Balls to the third neighbour of few images, or of features that look at little, reach far out.
    """
    if reference.pool_rows is None or not reference.origin.shape or len(reference.pool_rows) > MOST:
        return ""
    try:
        rows = _features(noise(reference.origin.shape), extractor, batch_size)
    except Exception:  # of a user's own network, which finds nothing in noise
        return ""
    precision = precision_recall(reference.pool_rows, rows).precision
    if precision < TELLING:
        return ""
    return (
        f"precision says little here: {COUNT} pictures of pure noise have one of {precision:.2g} in these features"
        f" beside these {len(reference.pool_rows):,} reference images; more of them, or other features, tell more"
    )


def _features(images: UInt8[Tensor, "N C H W"], extractor: Extractor, batch_size: int) -> Float32[Tensor, "N F"]:
    return torch.cat([extractor(batch).pool.cpu() for batch in torch.split(images, batch_size)])
