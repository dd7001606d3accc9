"""Whether a score is one of the images alone: how far it moves where the same features are computed otherwise."""

from dataclasses import replace

import torch

from adaln.files import reason
from adaln.metrics.features import Extractor, Features, Images
from adaln.metrics.scores import Scores, compare, statistics
from adaln.metrics.sides import Source


def moves(
    scores: Scores,
    samples: Source,
    reference: Source,
    extractor: Extractor,
    batch_size: int,
    device: str,
    validation: Source | None = None,
) -> dict[str, dict[str, float | None]]:
    """By how much each score moves with features of batches of another size, and with features in bfloat16.

    Of all sides, as far as these are images: statistics are as they are. A network that looks at each image by itself
    moves by rounding with the size of the batch; one that does not (statistics of the batch, padding to the largest)
    gives scores that nobody can repeat. A way that the network cannot go is named with why, and moves nothing.
    """
    other = batch_size // 2 or 2
    ways = {f"batches of {other}": (extractor, other), "bfloat16": (_in_bfloat16(extractor, device), batch_size)}
    names = [*scores.scores]
    moved: dict[str, dict[str, float | None]] = {}
    for words, (another, size) in ways.items():
        sides = (samples, reference, *([validation] if validation else ()))
        try:
            ours, theirs, *third = (statistics(side, another, batch_size=size) for side in sides)
        except Exception as error:  # whatever a user's own network raises
            moved[f"{words}: not computed ({type(error).__name__}: {reason(error)})"] = dict.fromkeys(names)
            continue
        again = compare(ours, theirs, names, replicates=0, validation=third[0] if third else None)
        moved[words] = {name: again[name].value - scores[name].value for name in names}
    return moved


def _in_bfloat16(extractor: Extractor, device: str) -> Extractor:
    def rounded(images: Images) -> Features:
        with torch.autocast(device, torch.bfloat16):
            features = extractor.network(images)
        spatial, probs = (None if part is None else part.float() for part in (features.spatial, features.probs))
        return Features(features.pool.float(), spatial, probs)

    return replace(extractor, network=rounded)
