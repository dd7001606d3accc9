"""From what a user names to a `Dataset`."""

from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt8
from PIL import Image

from adaln.data.cache import Progress, decoded, default_cache
from adaln.data.dataset import DataConfig, Dataset, fingerprint
from adaln.data.pictures import centre_crop
from adaln.data.sources import open_source
from adaln.types import DataSpec


def load(config: DataConfig, *, cache: Path | None = None, progress: Progress | None = None) -> Dataset:
    """The data set that `config` names, decoded. Raises ValueError in one line that names the file at fault.

    Folders and zips are decoded once into `cache` (None: `default_cache()`), with `progress(done, total)` called
    meanwhile, and memory-mapped from then on.
    """
    if config.size is not None and config.size < 1:
        raise ValueError(f"size is {config.size}; expected at least 1 pixel, or None for the set's own size")
    if config.path == "digits":
        images, labels, class_names = digits(config.size)
        return assemble(config, "digits", images, labels, class_names, fingerprint(images, labels, class_names))
    source = open_source(Path(config.path).expanduser())
    found = decoded(source, config.size, config.on_bad_image == "skip", cache or default_cache(), progress)
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


def digits(
    size: int | None,
) -> tuple[UInt8[np.ndarray, "N 1 H W"], Int64[np.ndarray, "N"], tuple[str, ...]]:
    """1,797 handwritten digits of 8x8 pixels, their grey levels 0..16 spread over 0..255.

    Source: Alpaydin & Kaynak, "Optical Recognition of Handwritten Digits" (UCI, 1998), test part, through scikit-learn.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = np.round(bunch.images * (255 / 16)).astype(np.uint8)
    if size is not None:
        images = np.stack([np.asarray(centre_crop(Image.fromarray(image), size)) for image in images])
    return images[:, None], bunch.target.astype(np.int64), tuple(str(digit) for digit in range(10))
