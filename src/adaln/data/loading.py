"""From what a user names to a `Dataset`."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt8

from adaln.data.cache import decoded, default_cache
from adaln.data.dataset import DataConfig, Dataset, fingerprint
from adaln.data.digits import digits, named_source
from adaln.data.latents import open_encoded
from adaln.data.legacy import is_fast_dit, is_lightning_dit, open_fast_dit, open_lightning_dit
from adaln.data.shards import is_shards
from adaln.types import DataSpec

ENCODED: dict[str, tuple[Callable[[Path], bool], Callable[[DataConfig], Dataset]]] = {
    "shards of adaln": (is_shards, open_encoded),
    "latents of fast-DiT": (is_fast_dit, open_fast_dit),
    "latents of LightningDiT": (is_lightning_dit, open_lightning_dit),
}
"""What is no set of pictures: how it is recognised and opened."""


def load(config: DataConfig, *, cache: Path | None = None) -> Dataset:
    """The data set that `config` names, decoded. Raises ValueError in one line that names the file at fault.

    Folders and zips are decoded once into `cache` (None: `default_cache()`) and
    memory-mapped from then on.
    """
    if config.size is not None and config.size < 1:
        raise ValueError(f"size is {config.size}; expected at least 1 pixel, or None for the set's own size")
    if config.path == "digits":
        images, labels, class_names = digits(config.size)
        return assemble(config, "digits", images, labels, class_names, fingerprint(images, labels, class_names))
    for is_one, open_one in ENCODED.values():
        if is_one(Path(config.path).expanduser()):
            return open_one(config)
    source = named_source(config.path)
    found = decoded(source, config.size, config.on_bad_image == "skip", cache or default_cache())
    name = source.path.resolve().stem
    return assemble(
        config, name, found.images, found.labels, source.class_names, found.fingerprint, skipped=found.skipped
    )


def assemble(
    config: DataConfig,
    name: str,
    images: UInt8[np.ndarray, "N C H W"],
    labels: Int64[np.ndarray, "N"],
    class_names: tuple[str, ...],
    fingerprint: str,
    skipped: tuple[str, ...] = (),
) -> Dataset:
    """The set with what a network must know of it."""
    _, channels, height, width = images.shape
    spec = DataSpec(channels, height, width, num_classes=len(class_names) if config.conditional else 0)
    return Dataset(name, images, labels, class_names, spec, fingerprint, config.flip, skipped)
