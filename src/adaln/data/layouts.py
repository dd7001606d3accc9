"""The data sets of the literature: where their pictures lie once unpacked, at which size and with how many classes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from adaln.data.dataset import DataConfig
from adaln.data.digits import named_source
from adaln.registry import Registry


@dataclass(frozen=True, slots=True)
class Layout:
    """A training set as its authors publish it."""

    title: str
    size: int
    """Side in pixels after ADM's centre crop."""
    flip: bool
    num_classes: int
    """0: trained without labels."""
    num_images: tuple[int, ...]
    """Of each published version."""
    folders: tuple[str, ...]
    """Where the training pictures may lie beneath the folder that was unpacked; the first that is there counts."""


IMAGENET_FOLDERS = ("ILSVRC/Data/CLS-LOC/train", "ILSVRC2012_img_train", "train", ".")
TINY_FOLDERS = ("tiny-imagenet-200/train", "train", ".")
AFHQ_FOLDERS = ("afhq/train", "afhq_v2/train", "train", ".")
CELEBA_FOLDERS = ("CelebA-HQ-img", "celeba_hq/train", "celeba_hq", "train", ".")
LAYOUTS = Registry(
    "data layout",
    {
        "imagenet-64": Layout("ImageNet-1K", 64, True, 1000, (1_281_167,), IMAGENET_FOLDERS),
        "imagenet-256": Layout("ImageNet-1K", 256, True, 1000, (1_281_167,), IMAGENET_FOLDERS),
        "imagenet-512": Layout("ImageNet-1K", 512, True, 1000, (1_281_167,), IMAGENET_FOLDERS),
        "tiny-imagenet-64": Layout("Tiny ImageNet", 64, True, 200, (100_000,), TINY_FOLDERS),
        "tiny-imagenet-256": Layout("Tiny ImageNet", 256, True, 200, (100_000,), TINY_FOLDERS),
        "afhq-256": Layout("AFHQ", 256, True, 3, (14_630, 14_336), AFHQ_FOLDERS),
        "afhq-512": Layout("AFHQ", 512, True, 3, (14_630, 14_336), AFHQ_FOLDERS),
        "celeba-hq-256": Layout("CelebA-HQ", 256, True, 0, (30_000,), CELEBA_FOLDERS),
    },
)


def layout_config(name: str, root: Path) -> DataConfig:
    """The config that loads or encodes the training part of a known set that was unpacked to `root`."""
    layout = LAYOUTS[name]
    found = next((root / folder for folder in layout.folders if (root / folder).is_dir()), None)
    if found is None:
        raise ValueError(f"{root}: no folder; expected the unpacked {layout.title}")
    return DataConfig(str(found), layout.size, layout.flip, conditional=layout.num_classes > 0)


def check_layout(name: str, config: DataConfig) -> None:
    """Raise ValueError unless what the config names has as many images and classes as the published set."""
    source = named_source(config.path)
    check_counts(name, len(source.names), source.class_names)


def check_counts(name: str, num_images: int, class_names: Sequence[str]) -> None:
    layout = LAYOUTS[name]
    counts = " or ".join(f"{count:,}" for count in layout.num_images)
    if num_images not in layout.num_images:
        raise ValueError(
            f"{num_images:,} images; {layout.title} has {counts} for training (leave layout out to use a part)"
        )
    if layout.num_classes and len(class_names) != layout.num_classes:
        raise ValueError(f"{len(class_names):,} classes; {layout.title} has {layout.num_classes:,}")
