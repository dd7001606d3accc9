"""The embedded set: real images that need no download."""

import io
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt8
from PIL import Image

from adaln.data.attributes import by_attribute, split_attribute
from adaln.data.hub import PREFIX
from adaln.data.pictures import centre_crop
from adaln.data.sources import Source, open_dataset, open_source

CLASS_NAMES = tuple("0123456789")


def digits(size: int | None) -> tuple[UInt8[np.ndarray, "N 1 H W"], Int64[np.ndarray, "N"], tuple[str, ...]]:
    """1,797 handwritten digits of 8x8 pixels, their grey levels 0..16 spread over 0..255.

    Source: Alpaydin & Kaynak, "Optical Recognition of Handwritten Digits" (UCI, 1998), test part, through scikit-learn.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = np.round(bunch.images * (255 / 16)).astype(np.uint8)
    if size is not None:
        images = np.stack([np.asarray(centre_crop(Image.fromarray(image), size)) for image in images])
    return images[:, None], bunch.target.astype(np.int64), CLASS_NAMES


def named_source(path: str) -> Source:
    """The source that a user names: the digits, a dataset of the hub, or what lies at a path, by attribute or not."""
    if path.startswith(PREFIX):
        return open_dataset(path)
    if path == "digits":
        return digits_source()
    path, attribute = split_attribute(path)
    source = open_source(Path(path).expanduser())
    return by_attribute(source, attribute) if attribute else source


def digits_source() -> Source:
    """The digits as if they lay in a folder of PNG files."""
    images, labels, class_names = digits(None)
    names = [f"{number:04d}.png" for number in range(len(images))]

    def read(name: str) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(images[int(name.removesuffix(".png")), 0]).save(buffer, "PNG")
        return buffer.getvalue()

    return Source(Path("digits"), names, labels, class_names, [(images[0].size, 0)] * len(names), read)
