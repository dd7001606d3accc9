"""What a score takes before it is made: the images that a feature network sees, what it learns first, and how long."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from adaln.evaluation.samples import Reference
from adaln.files import default_cache
from adaln.metrics import Features, Source
from adaln.metrics.classifier import NAME as CLASSIFIER
from adaln.metrics.classifier import batch_size, unlearned
from adaln.metrics.features import Images
from adaln.metrics.images import ImageStream
from adaln.metrics.inception import MEGABYTES, is_kept
from adaln.metrics.sides import side_name
from adaln.sampling import Sampler
from adaln.training.speed import BACKWARD

FEW = 2
"""Images that are timed first; more of them where those were quick."""
QUICK_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Foreseen:
    """Of one feature network."""

    features: str
    reference: str
    num_images: int
    """Of all sides, so far as they are images and not statistics."""
    first: str
    """What is made or fetched before the first feature, and kept; "": nothing."""
    seconds: float | None
    """Of that and of all features, without the intervals; None: not known, the network is not here."""

    @property
    def line(self) -> str:
        """In words."""
        return f"features: {self.features} of {self.num_images:,} images, against {self.reference}{self.ahead}"

    @property
    def ahead(self) -> str:
        """What comes before the features, and whether their time is known, as the end of a line."""
        first = f"; first {self.first}, once, and kept" * bool(self.first)
        return first + "; how long is not known" * (self.seconds is None)


def undrawn(sampler: Sampler) -> ImageStream:
    """The images that are still to be drawn, of which only number and shape are known; of latents the number alone."""
    spec, is_latent = sampler.run.spec, sampler.run.manifest.get("data", {}).get("latents") is not None
    shape = () if is_latent else (spec.channels, spec.height, spec.width)
    return ImageStream(str(sampler.run.path), sampler.config.num_images, lambda size: (), shape)


def foreseen(
    reference: Reference, features: str | None, weights: Path | None, sides: Sequence[Source], batch: int, device: str
) -> Foreseen:
    """Of the features of all `sides` that are images, timed on the first of them; nothing is trained or fetched."""
    name, cache, seconds, first = features or reference.default_features, default_cache(), None, ""
    streams = [side for side in sides if isinstance(side, ImageStream)]
    count = seen = sum(stream.num_images for stream in streams)
    network: Callable[[Images], Features] | None = None
    if name == CLASSIFIER and (data := reference.labelled):
        network, steps = unlearned(data, cache)
        of_each = batch_size(len(data.labels))
        seen += BACKWARD * of_each * steps
        if steps:
            first = f"a classifier of {len(data.labels):,} images is trained ({steps:,} steps of {of_each})"
    elif name == "inception" and weights is None and not is_kept(cache):
        first = f"its weights are fetched ({MEGABYTES} MB)"
    else:
        network = reference.extractor(features, weights, device)
    images = next((images for stream in streams for images in stream.batches(batch)), None)
    if network is not None and images is not None:
        seconds = seen * _seconds_per_image(network, images)
    return Foreseen(name, side_name(reference.source), count, first, seconds)


def _seconds_per_image(network: Callable[[Images], Features], images: Images) -> float:
    seconds = 0.0
    for part in (images[:FEW], images):
        start = time.perf_counter()
        with torch.inference_mode():
            network(part)
        seconds = (time.perf_counter() - start) / len(part)
        if seconds > QUICK_SECONDS:
            break
    return seconds
