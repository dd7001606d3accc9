"""Streams of uint8 images from whatever a user has: an array, a data set, an ADM npz, a folder or a zip."""

import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from adaln.data import Dataset
from adaln.data.dataset import Rows
from adaln.data.listing import Listing, list_folder, list_zip
from adaln.data.pictures import UNREADABLE, decode, is_colour
from adaln.tensor_files import Npz

Batch = UInt8[Tensor, "B C H W"]
ARRAY = "arr_0"
"""The key under which ADM's npz files hold their images."""


@dataclass(frozen=True, slots=True, eq=False)
class ImageStream:
    """Images in a fixed order, of which one batch is in memory at a time."""

    name: str
    num_images: int
    batches: Callable[[int], Iterable[Batch]]
    """Batch size -> uint8 (B, C, H, W) batches, in order; the last one may be shorter."""


ImagesLike: TypeAlias = np.ndarray | Tensor | Dataset | ImageStream | str | Path


def open_images(source: ImagesLike, num_images: int | None = None) -> ImageStream:
    """The images of `source`, or its first `num_images`.

    Arrays are uint8, (N, H, W, C) as ADM writes them or (N, C, H, W), with 1 or 3 channels; where both readings fit,
    ADM's wins. Folders and zips are read in the order of their sorted paths, at their own size: nothing is resized or
    cropped before the extractor. Raises ValueError where there are fewer images than asked for.
    """
    stream = _open(source)
    if num_images is None:
        return stream
    if num_images < 1 or stream.num_images < num_images:
        raise ValueError(f"{stream.name}: got {stream.num_images} images, expected at least {num_images} as asked for")
    return ImageStream(stream.name, num_images, lambda size: _first(stream, num_images, size))


def _open(source: ImagesLike) -> ImageStream:
    if isinstance(source, ImageStream):
        return source
    if isinstance(source, Tensor):
        source = source.cpu().numpy()
    if isinstance(source, np.ndarray):
        _check_layout("array", source.dtype, source.shape)
        array = source
        return ImageStream("array", len(array), lambda size: map(channels_first, _slices(array, size)))
    if isinstance(source, Dataset):
        images = source.images
        return ImageStream(source.name, len(images), lambda size: _slices(images, size))
    path = Path(source)
    if path.is_dir():
        return _pictures(list_folder(path))
    if path.suffix == ".npz" and path.is_file():
        return _npz(path)
    if path.is_file() and zipfile.is_zipfile(path):
        return _pictures(list_zip(path))
    raise ValueError(
        f"{path}: {'not an npz or zip' if path.exists() else 'does not exist'}; expected npz, folder or zip"
    )


def _first(stream: ImageStream, num_images: int, size: int) -> Iterator[Batch]:
    left = num_images
    for batch in stream.batches(size):
        yield batch[:left]
        left -= len(batch)
        if left <= 0:
            return


def _slices(images: np.ndarray | Rows, size: int) -> Iterator[UInt8[Tensor, "B _ _ _"]]:
    for start in range(0, len(images), size):
        yield torch.from_numpy(images[start : start + size].copy())  # they may be read-only


def channels_first(images: UInt8[Tensor, "B _ _ _"]) -> Batch:
    """(B, H, W, C) or (B, C, H, W) as (B, C, H, W); the channels are the axis of length 1 or 3, the last one first."""
    return images.permute(0, 3, 1, 2).contiguous() if images.shape[3] in (1, 3) else images


def _check_layout(name: str, dtype: np.dtype, shape: tuple[int, ...]) -> None:
    if dtype != np.uint8:
        raise ValueError(f"{name}: got {dtype} images, expected uint8 in 0..255 (NaN and scaling have no place there)")
    if len(shape) != 4 or not {shape[1], shape[3]} & {1, 3}:
        raise ValueError(f"{name}: got shape {shape}, expected (N, H, W, C) or (N, C, H, W) with 1 or 3 channels")
    if not shape[0]:
        raise ValueError(f"{name}: got no images, expected at least one")


def _npz(path: Path) -> ImageStream:
    """The member `arr_0`, read piece by piece: a 50,000-image file never lies in memory."""
    npz = Npz.open(path)
    if ARRAY not in npz.names:
        raise ValueError(f"{path}: has no '{ARRAY}', got {[*npz.names]}; expected ADM's layout ({ARRAY}: uint8 NHWC)")
    header = npz.header(ARRAY)
    _check_layout(str(path), header.dtype, header.shape)
    return ImageStream(
        str(path),
        header.shape[0],
        lambda size: (channels_first(torch.from_numpy(rows)) for rows in npz.pieces(ARRAY, size)),
    )


def _pictures(listing: Listing) -> ImageStream:
    count = len(listing.pictures)
    if not count:
        raise ValueError(f"{listing.path}: got no images, expected files such as .png or .jpg")

    def batches(size: int) -> Iterator[Batch]:
        pictures = _alike(listing)
        while part := list(islice(pictures, size)):
            yield torch.from_numpy(np.stack(part))

    return ImageStream(str(listing.path), count, batches)


def _alike(listing: Listing) -> Iterator[UInt8[np.ndarray, "C H W"]]:
    """Decoded pictures of one shape, which the first one sets: a grey one among colour ones becomes RGB."""
    path = listing.path
    first: tuple[int, ...] | None = None
    for name in listing.pictures:
        try:
            content = listing.read(name)
        except UNREADABLE as error:
            raise ValueError(f"{path}/{name}: damaged ({error})") from error
        grey = (first[0] == 1 if first else True) and not is_colour(content)
        try:
            pixels = decode(content, None, "L" if grey else "RGB")
        except ValueError as error:
            raise ValueError(f"{path}/{name}: cannot be decoded ({error})") from error
        first = first or pixels.shape
        if pixels.shape != first:
            raise ValueError(f"{path}/{name}: got {pixels.shape}, expected {first} (C, H, W) as the first image has")
        yield pixels
