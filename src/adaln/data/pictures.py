"""Encoded pictures: where they are, and how each becomes upright 8-bit pixels, cropped to the square that is learned.

Each is decoded alike wherever it lies; many are decoded in parallel and given back in order. What was decoded is kept
in one memory-mapped file, found again by what it was decoded from.
"""

import hashlib
import io
import json
import math
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import PIL
from jaxtyping import Int64, UInt8
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from adaln.data.config import DataConfig
from adaln.data.dataset import Dataset, fingerprint, row_digests, spec_of
from adaln.files import atomic_folder, filling, locked, remove_temporaries, temporaries
from adaln.progress import progress
from adaln.tensor_files import load_npy

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".jp2", ".avif")
"""File endings that make a file a picture; all others are passed over."""
AT_ONCE = 256
"""Pictures that are decoded in parallel before they are given back in order."""
CACHE_FORMAT = 2
"""Part of every cache key: raise it when decoding changes a pixel, or when what is kept changes."""
Mode = Literal["L", "RGB"]


@dataclass(frozen=True, slots=True)
class Source:
    """Encoded pictures in their fixed order, as columns (a million rows are usual)."""

    path: Path
    names: list[str]
    """Relative to `path`, with forward slashes; sorted."""
    labels: Int64[np.ndarray, "N"]
    class_names: tuple[str, ...]
    """Empty for a set without classes."""
    stamps: list[tuple[int, int]]
    """Size and modification time (folder, tar) or CRC (zip): a changed file has another stamp."""
    read: Callable[[str], bytes]
    passed_over: tuple[str, ...] = ()
    """What lies there and is none of the set, a phrase for each kind: `2 .jfif (cat/0.jfif)`."""


def one_at_a_time(read: Callable[[str], bytes]) -> Callable[[str], bytes]:
    """`read`, one thread at a time: pictures are read in turn and decoded in parallel."""
    lock = threading.Lock()

    def read_alone(name: str) -> bytes:
        with lock:
            return read(name)

    return read_alone


def decode(encoded: bytes, size: int | None, mode: Mode) -> UInt8[np.ndarray, "C H W"]:
    """Pixels of the first frame, upright as EXIF says, cropped to `size` x `size` (None: as it is), C = 1 or 3.

    Alpha is laid over white, for the colour beneath a transparent pixel is arbitrary; palette and CMYK become RGB;
    16-bit grey is rescaled (v / 257), not clipped. Raises ValueError with the reason, not the name.
    """
    try:
        with Image.open(io.BytesIO(encoded)) as opened:
            picture = eight_bit(upright(opened), opened.format, mode)
    except Exception as error:  # on damaged bytes decoders raise nearly anything; the reason is all that matters
        raise ValueError(reason(encoded, error)) from error
    pixels = np.asarray(picture if size is None else centre_crop(picture, size))
    return np.ascontiguousarray(np.atleast_3d(pixels).transpose(2, 0, 1))


def is_colour(encoded: bytes) -> bool:
    """Whether the picture is stored in colour (a palette counts), from its header alone; False if it has none."""
    try:
        with Image.open(io.BytesIO(encoded)) as opened:
            return opened.mode not in ("1", "L", "LA", "I", "F") and not opened.mode.startswith("I;16")
    except Exception:  # `decode` says what is wrong with it
        return False


def reason(encoded: bytes, error: Exception) -> str:
    """Why the bytes are no picture, in a few words."""
    if not encoded:
        return "empty file (0 bytes)"
    if isinstance(error, UnidentifiedImageError):
        return "not in any image format that Pillow knows"
    return " ".join(str(error).split()) or type(error).__name__


def upright(picture: Image.Image) -> Image.Image:
    """The picture turned as its EXIF orientation says."""
    try:
        is_turned = picture.getexif().get(ExifTags.Base.Orientation, 1) != 1
    except Exception:  # damaged EXIF says nothing about the pixels
        return picture
    return ImageOps.exif_transpose(picture) if is_turned else picture


def eight_bit(picture: Image.Image, stored_as: str | None, mode: Mode) -> Image.Image:
    """The picture in `mode`; `stored_as` is its file format, which tells 16 bits from 32."""
    if picture.mode.startswith("I;16") or (picture.mode == "I" and stored_as in ("PNG", "PPM")):
        grey = np.round(np.asarray(picture, dtype=np.float64) / 257.0)
        return Image.fromarray(grey.astype(np.uint8)).convert(mode)
    if picture.mode in ("I", "F"):
        raise ValueError(f"32-bit pixels (mode {picture.mode}) have no fixed range; convert the file to 8 or 16 bits")
    if picture.has_transparency_data:
        white = Image.new("RGBA", picture.size, "white")
        return Image.alpha_composite(white, picture.convert("RGBA")).convert(mode)
    return picture.convert(mode)


def centre_crop(picture: Image.Image, size: int) -> Image.Image:
    """The central `size` x `size` square after shrinking (or growing) the shorter side to `size`.

    Halving with a box filter while the shorter side is at least twice `size` keeps the bicubic step from aliasing.

    Source: Dhariwal & Nichol, "Diffusion Models Beat GANs on Image Synthesis" (2021), the preprocessing of ADM.
    """
    while min(picture.size) >= 2 * size:
        picture = picture.resize((picture.width // 2, picture.height // 2), Image.Resampling.BOX)
    scale = size / min(picture.size)
    picture = picture.resize((round(picture.width * scale), round(picture.height * scale)), Image.Resampling.BICUBIC)
    left, top = (picture.width - size) // 2, (picture.height - size) // 2
    return picture.crop((left, top, left + size, top + size))


def stored_mode(source: Source) -> Mode:
    """L if all pictures are stored as grey, else RGB."""

    def is_stored_in_colour(name: str) -> bool:
        try:
            return is_colour(source.read(name))
        except (OSError, ValueError):  # decoding it says so
            return False

    return "RGB" if any(map(is_stored_in_colour, source.names)) else "L"


def decode_all(
    read: Callable[[str], bytes], names: list[str], size: int | None, mode: Mode
) -> Iterator[UInt8[np.ndarray, "C H W"] | ValueError]:
    """The pictures of these names in order, each or why it cannot be decoded."""

    def decode_named(name: str) -> UInt8[np.ndarray, "C H W"] | ValueError:
        try:
            return decode(read(name), size, mode)
        except (OSError, ValueError) as error:
            return ValueError(str(error))

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow decodes outside the interpreter lock
        for start in range(0, len(names), AT_ONCE):
            yield from pool.map(decode_named, names[start : start + AT_ONCE])


def stop_at(path: Path, bad: Sequence[str], skip_bad: bool) -> None:
    """Raise at the first bad image unless bad images are to be skipped."""
    if bad and not skip_bad:
        raise ValueError(f"{path}: cannot decode image {bad[0]}; repair it or set on_bad_image to 'skip'")


@dataclass(slots=True)
class Decoding:
    """Pictures of a source decoded in order, all of one shape: which were kept, and why others were not."""

    source: Source
    size: int | None
    mode: Mode
    skip_bad: bool
    first: tuple[int, tuple[int, ...]] | None = None
    """Number and shape of the picture whose shape all must have; None: the first one that can be decoded."""
    kept: list[int] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    def images(self, among: range | None = None) -> Iterator[UInt8[np.ndarray, "C H W"]]:
        """All pictures (or those `among`) that can be decoded.

        Raises ValueError at one that cannot, unless bad ones are to be skipped, and at one of another shape.
        """
        numbers = range(len(self.source.names)) if among is None else among
        names = self.source.names[numbers.start : numbers.stop]
        pictures = decode_all(self.source.read, names, self.size, self.mode)
        for number, name, picture in zip(numbers, names, pictures, strict=True):
            if isinstance(picture, ValueError):
                self.skipped.append(f"{name}: {picture}")
                stop_at(self.source.path, self.skipped, self.skip_bad)
            else:
                self.first = self.first or (number, picture.shape)
                if picture.shape != self.first[1]:
                    both = (self.first, (number, picture.shape))
                    sizes = ", ".join(f"{self.source.names[n]} {height}x{width}" for n, (_, height, width) in both)
                    raise ValueError(
                        f"{self.source.path}: images differ in size ({sizes}); set one size to crop them to"
                    )
                self.kept.append(number)
                yield picture

    def first_kept(self) -> tuple[int, tuple[int, ...]]:
        """Number and shape of the first picture; ValueError if none could be decoded."""
        if self.first is None:
            none = f"none of its {len(self.skipped)} images can be decoded"
            raise ValueError(f"{self.source.path}: {none}; first: {self.skipped[0]}")
        return self.first


def default_cache() -> Path:
    """`$ADALN_CACHE`, else `adaln` in the user's cache folder; `ValueError` where neither is known."""
    if chosen := os.environ.get("ADALN_CACHE"):
        return Path(chosen)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "adaln"
    except RuntimeError:
        raise ValueError(
            "this user has no home folder for a cache; set ADALN_CACHE to a folder that can be written"
        ) from None


def decoded(source: Source, config: DataConfig, cache: Path) -> Dataset:
    """The pictures as a data set, decoded if they are not in the cache; only one process makes it, others wait.

    Progress is how far it is, or how much another process has written. A decoding that fails or is killed
    leaves nothing that counts.
    """
    skip_bad = config.on_bad_image == "skip"
    folder = cache / "images" / cache_key(source, config.size)
    with filling(cache):
        if not is_decoded(folder, source):  # what is whole needs no lock, which a cache that is only read cannot have
            folder.parent.mkdir(parents=True, exist_ok=True)
            with locked(folder.with_suffix(".lock"), partial(show_other_process, source, folder)):
                if not is_decoded(folder, source):
                    shutil.rmtree(folder, ignore_errors=True)
                    remove_temporaries(folder.parent, folder.name)
                    with atomic_folder(folder) as unfinished:
                        write_decoded(Decoding(source, config.size, stored_mode(source), skip_bad), unfinished)
        about = json.loads((folder / "about.json").read_text())
        images = np.memmap(folder / "pixels.bin", np.uint8, "r", shape=tuple(about["shape"]))
        labels = np.load(folder / "labels.npy")
    stop_at(source.path, about["skipped"], skip_bad)
    spec = spec_of(images.shape[1:], source.class_names, config.conditional)
    known = (source.class_names, spec, about["fingerprint"], config.flip, tuple(about["skipped"]))
    return Dataset(source.path.resolve().stem, np.asarray(images), labels, *known, source.passed_over)


def cache_key(source: Source, size: int | None) -> str:
    """Changes with any picture's name, size or time, with the crop, and with the decoder."""
    made_from = (CACHE_FORMAT, PIL.__version__, str(source.path.resolve()), size, source.class_names)
    digest = hashlib.sha256(repr(made_from).encode())
    digest.update(json.dumps([source.names, source.stamps, source.labels.tolist()]).encode())
    return digest.hexdigest()[:24]


def show_other_process(source: Source, folder: Path) -> None:
    """Show how much another process has decoded so far."""
    files = [unfinished / "pixels.bin" for unfinished in temporaries(folder.parent, folder.name)]
    with suppress(FileNotFoundError):  # it has just ended
        num_bytes = sum(file.stat().st_size for file in files)
        progress(f"decode {source.path.name} in another process", num_bytes // 10**6, 0, "MB")


def write_decoded(decoding: Decoding, folder: Path) -> None:
    """Decode every picture into `pixels.bin`, in order, then describe them in `labels.npy` and `about.json`."""
    source, skipped = decoding.source, decoding.skipped
    with (folder / "pixels.bin").open("wb") as file:
        for image in decoding.images():
            file.write(image.data)
            num_seen = len(decoding.kept) + len(skipped)
            progress(f"decode {source.path.name}", num_seen, len(source.names), "images")
    _, shape = decoding.first_kept()
    labels = source.labels[decoding.kept]
    missing = set(source.labels.tolist()) - set(labels.tolist())
    if missing and source.class_names:
        raise ValueError(f"{source.path}: no image of class {source.class_names[min(missing)]!r} can be decoded")
    images = np.memmap(folder / "pixels.bin", np.uint8, "r", shape=(len(labels), *shape))
    np.save(folder / "labels.npy", labels)
    print_of = fingerprint(row_digests(images, labels), images.shape, source.class_names)
    (folder / "about.json").write_text(json.dumps({"shape": images.shape, "skipped": skipped, "fingerprint": print_of}))


def is_decoded(folder: Path, source: Source) -> bool:
    """Whether all that is kept is there and fits together; what is damaged counts as not there, and is made anew."""
    with suppress(Exception):  # whatever is raised over other bytes
        about, labels = json.loads((folder / "about.json").read_text()), load_npy(folder / "labels.npy")
        shape, count = about["shape"], len(source.names) - len(about["skipped"])
        is_whole = min(shape) > 0 and (folder / "pixels.bin").stat().st_size == math.prod(shape)
        fits = labels.shape == (count,) and shape[0] == count and isinstance(about["fingerprint"], str)
        return bool(is_whole and fits and 0 <= labels.min() <= labels.max() < max(1, len(source.class_names)))
    return False
