"""Streams of uint8 images from whatever a user has: an array, a data set, an ADM npz, a folder, zip or tar."""

import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from adaln.data import Dataset, open_pictures
from adaln.data.dataset import Rows
from adaln.data.pictures import Mode, Source, decode_all, stored_mode
from adaln.data.tars import is_tar
from adaln.tensor_files import Npz, what_is

Batch = UInt8[Tensor, "B C H W"]
ARRAY = "arr_0"
"""The key under which ADM's npz files hold their images."""
SOURCES = f"a folder, zip or tar of pictures, or an npz ({ARRAY}: uint8 NHWC; or mu and sigma)"
"""What holds images, in words."""


@dataclass(frozen=True, slots=True, eq=False)
class ImageStream:
    """Images in a fixed order, of which one batch is in memory at a time."""

    name: str
    num_images: int
    batches: Callable[[int], Iterable[Batch]]
    """Batch size -> uint8 (B, C, H, W) batches, in order; the last one may be shorter."""
    shape: tuple[int, ...] = ()
    """(C, H, W) of each image; empty: not known before they are read."""
    passed_over: tuple[str, ...] = ()
    """What lay beside the images and is none of them, a phrase for each kind: `2 .txt (a.txt)`."""
    several: list[str] = field(default_factory=list)
    """Names of pictures of several frames among those that were read, of which the first was taken."""


ImagesLike: TypeAlias = np.ndarray | Tensor | Dataset | ImageStream | str | Path


def open_images(source: ImagesLike, num_images: int | None = None) -> ImageStream:
    """The images of `source`, or its first `num_images`.

    Arrays are uint8, (N, H, W, C) as ADM writes them or (N, C, H, W), with 1 or 3 channels; where both readings fit,
    ADM's wins. The pictures of folders, zips and tars are those that training would read, decoded alike, in the order
    of their sorted paths, at their own size: nothing is resized or cropped before the extractor. Raises ValueError
    where there are fewer images than asked for.
    """
    stream = _open(source)
    if num_images is None:
        return stream
    if num_images < 1:
        raise ValueError(f"num_images is {num_images}; expected at least 1")
    if stream.num_images < num_images:
        raise ValueError(f"{stream.name}: got {stream.num_images} images, expected at least {num_images} as asked for")
    return replace(stream, num_images=num_images, batches=lambda size: _first(stream, num_images, size))


def _open(source: ImagesLike) -> ImageStream:
    if isinstance(source, ImageStream):
        return source
    if isinstance(source, Tensor):
        source = source.cpu().numpy()
    if isinstance(source, np.ndarray):
        _check_layout("array", source.dtype, source.shape)
        array = source
        shape = channels_first_shape(array.shape)
        return ImageStream("array", len(array), lambda size: map(channels_first, _slices(array, size)), shape)
    if isinstance(source, Dataset):
        images, skipped = source.images, len(source.skipped)
        left = (*source.passed_over, *([f"{skipped:,} that cannot be decoded"] if skipped else ()))
        return ImageStream(source.name, len(images), lambda size: _slices(images, size), images.shape[1:], left)
    path = Path(source)
    check_path(path)
    return _npz(path) if is_npz(path) else _pictures(open_pictures(path))


def is_npz(path: Path) -> bool:
    """Whether it is called an npz, or is one under another name."""
    if path.suffix.lower() == ".npz":
        return True
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith(".npy") for name in archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False


def check_path(path: Path) -> None:
    """ValueError where there is nothing at a path, or a file that can hold neither images nor statistics."""
    if not path.exists():
        raise ValueError(f"{path}: does not exist; expected {SOURCES}")
    if path.is_dir() or is_npz(path) or is_tar(path) or zipfile.is_zipfile(path):
        return
    words = what_is(path) or "nothing that holds images"
    array = f": np.savez(OUT, {ARRAY}=images)" if "NumPy" in words else ""
    raise ValueError(f"{path}: is {words}; expected {SOURCES}{array}")


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


def channels_first_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """(C, H, W) of such images."""
    return (shape[3], *shape[1:3]) if shape[3] in (1, 3) else shape[1:]


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
    others = {name: npz.header(name).shape for name in npz.names if name != ARRAY}
    return ImageStream(
        str(path),
        header.shape[0],
        lambda size: (channels_first(torch.from_numpy(rows)) for rows in npz.pieces(ARRAY, size)),
        channels_first_shape(header.shape),
        tuple(f"array {name!r} of the shape {shape}" for name, shape in others.items() if len(shape) > 2),
    )


def _pictures(source: Source) -> ImageStream:
    """The pictures at their own size, which is that of the first; grey ones among colour ones become RGB."""
    mode = stored_mode(source)

    def batches(size: int) -> Iterator[Batch]:
        pictures = _alike(source, mode, shape, several)
        while part := list(islice(pictures, size)):
            yield torch.from_numpy(np.stack(part))

    several = list[str]()
    shape = next(_alike(replace(source, names=source.names[:1]), mode, (), [])).shape
    return ImageStream(str(source.path), len(source.names), batches, shape, source.passed_over, several)


def _alike(
    source: Source, mode: Mode, shape: tuple[int, ...], several: list[str]
) -> Iterator[UInt8[np.ndarray, "C H W"]]:
    """All pictures decoded, of that shape; empty: of any. `several` gets the names of those of several frames."""
    for name, picture in zip(source.names, decode_all(source.read, source.names, None, mode, several), strict=True):
        if isinstance(picture, ValueError):
            raise ValueError(f"{source.path}/{name}: cannot be decoded ({picture}); repair it or take it away")
        if shape and picture.shape != shape:
            raise ValueError(
                f"{source.path}/{name}: got {picture.shape}, expected {shape} (C, H, W) as the first image has"
            )
        yield picture
