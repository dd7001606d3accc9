"""The data sets of the literature: the digits, which are embedded, and where the pictures of others lie unpacked."""

import gzip
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt8
from PIL import Image

from adaln.data.config import DataConfig
from adaln.data.dataset import Dataset, fingerprint, row_digests, spec_of
from adaln.data.pictures import Source, centre_crop
from adaln.registry import Registry


@dataclass(frozen=True, slots=True)
class PublishedSet:
    """A training set as its authors publish it."""

    title: str
    size: int
    """Side in pixels after ADM's centre crop."""
    num_classes: int
    """0: trained without labels."""
    num_images: tuple[int, ...]
    """Of each published version."""
    folders: tuple[str, ...]
    """Where the training pictures may lie beneath the folder that was unpacked; the first that is there counts."""


DIGITS = tuple("0123456789")
IMAGENET_FOLDERS = ("ILSVRC/Data/CLS-LOC/train", "ILSVRC2012_img_train", "train", ".")
TINY_FOLDERS = ("tiny-imagenet-200/train", "train", ".")
AFHQ_FOLDERS = ("afhq/train", "afhq_v2/train", "train", ".")
CELEBA_FOLDERS = ("CelebA-HQ-img", "celeba_hq/train", "celeba_hq", "train", ".")
PUBLISHED_SETS = Registry(
    "data layout",
    {
        "imagenet-64": PublishedSet("ImageNet-1K", 64, 1000, (1_281_167,), IMAGENET_FOLDERS),
        "imagenet-256": PublishedSet("ImageNet-1K", 256, 1000, (1_281_167,), IMAGENET_FOLDERS),
        "imagenet-512": PublishedSet("ImageNet-1K", 512, 1000, (1_281_167,), IMAGENET_FOLDERS),
        "tiny-imagenet-64": PublishedSet("Tiny ImageNet", 64, 200, (100_000,), TINY_FOLDERS),
        "tiny-imagenet-256": PublishedSet("Tiny ImageNet", 256, 200, (100_000,), TINY_FOLDERS),
        "afhq-256": PublishedSet("AFHQ", 256, 3, (14_630, 14_336), AFHQ_FOLDERS),
        "afhq-512": PublishedSet("AFHQ", 512, 3, (14_630, 14_336), AFHQ_FOLDERS),
        "celeba-hq-256": PublishedSet("CelebA-HQ", 256, 0, (30_000,), CELEBA_FOLDERS),
    },
)


def published_config(name: str, root: Path) -> DataConfig:
    """The config that loads or encodes the training part of a published set that was unpacked to `root`."""
    published = PUBLISHED_SETS[name]
    folder = next((root / folder for folder in published.folders if (root / folder).is_dir()), None)
    if folder is None:
        raise ValueError(f"{root}: no folder; expected the unpacked {published.title}")
    return DataConfig(str(folder), published.size, flip=True, conditional=published.num_classes > 0)


def check_published(name: str, num_images: int, class_names: Sequence[str]) -> None:
    """Raise ValueError unless there are as many images and classes as in the published set."""
    published = PUBLISHED_SETS[name]
    counts = " or ".join(f"{count:,}" for count in published.num_images)
    if num_images not in published.num_images:
        raise ValueError(
            f"{num_images:,} images; {published.title} has {counts} for training (leave layout out to use a part)"
        )
    if published.num_classes and len(class_names) != published.num_classes:
        raise ValueError(f"{len(class_names):,} classes; {published.title} has {published.num_classes:,}")


@cache
def digits(config: DataConfig) -> Dataset:
    """1,797 handwritten digits of 8x8 pixels.

    Source: Alpaydin & Kaynak, "Optical Recognition of Handwritten Digits" (UCI, 1998), test part, through scikit-learn.
    """
    images, labels = read_digits()
    if config.size is not None:
        images = np.stack([np.asarray(centre_crop(Image.fromarray(image), config.size)) for image in images])
    images = images[:, None]
    spec = spec_of(images.shape[1:], DIGITS, config.conditional)
    print_of = fingerprint(row_digests(images, labels), images.shape, DIGITS)
    return Dataset("digits", images, labels, DIGITS, spec, print_of, config.flip)


def digits_source(path: str) -> Source:
    """The digits as if they lay in a folder of PNG files."""
    images, labels = read_digits()
    names = [f"{number:04d}.png" for number in range(len(images))]

    def read(name: str) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(images[int(name.removesuffix(".png"))]).save(buffer, "PNG")
        return buffer.getvalue()

    return Source(Path(path), names, labels, DIGITS, [(images[0].size, 0)] * len(names), read)


def read_digits() -> tuple[UInt8[np.ndarray, "N 8 8"], Int64[np.ndarray, "N"]]:
    """The grey levels 0..16 of the digits spread over 0..255, and which digit each is.

    They are read from scikit-learn's file: to import it takes as long as torch does.
    """
    (folder,) = find_spec("sklearn").submodule_search_locations  # type: ignore[union-attr, misc]
    with gzip.open(Path(folder) / "datasets" / "data" / "digits.csv.gz", "rt", encoding="utf-8") as file:
        rows = np.loadtxt(file, delimiter=",")
    levels, labels = rows[:, :-1].reshape(-1, 8, 8), rows[:, -1].astype(np.int64)
    return np.round(levels * (255 / 16)).astype(np.uint8), labels
