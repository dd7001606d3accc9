"""Encoded pictures: where they are, and how each becomes upright 8-bit pixels, cropped to the square that is learned.

Each is decoded alike wherever it lies; many are decoded in parallel and given back in order. What was decoded is kept
in one memory-mapped file, found again by what it was decoded from.
"""

import io
import os
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Int64, UInt8
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from adaln.tensor_files import what_text

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".jp2", ".avif")
"""File endings that make a file a picture; all others are passed over."""
AT_ONCE = 256
"""Pictures that are decoded in parallel before they are given back in order."""
SEVERAL_ONLY_WITH = ((b"\xff\xd8", b"MPF\0"), (b"\x89PNG", b"acTL"))
"""How JPEG and PNG begin, and what those hold that have several frames."""
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
    newest: int = 0
    """When a file of it last changed, whatever its time says (ctime, in ns); 0 where the stamps say all."""
    mode: Mode | None = None
    """What the set itself says that all pictures are; None: nothing."""


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


def has_several_frames(encoded: bytes) -> bool:
    """Whether the picture has pages or frames behind the first one, which alone is read."""
    if any(encoded.startswith(begin) and marker not in encoded for begin, marker in SEVERAL_ONLY_WITH):
        return False
    try:
        with Image.open(io.BytesIO(encoded)) as opened:
            return bool(getattr(opened, "is_animated", False))
    except Exception:  # `decode` says what is wrong with it
        return False


def several_frames(names: Collection[str]) -> tuple[str, ...]:
    """A phrase on the pictures of several frames, where there are any."""
    count = len(set(names))
    return (f"all but the first frame of {count} pictures ({min(names)})",) if count else ()


def reason(encoded: bytes, error: Exception) -> str:
    """Why the bytes are no picture, in a few words."""
    if not encoded:
        return "empty file (0 bytes)"
    if isinstance(error, UnidentifiedImageError):
        words = what_text(encoded)
        return f"not in any image format that Pillow knows{f': {words}' if words else ''}"
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
    """What the set says, else L if all pictures are stored as grey, else RGB."""
    if source.mode:
        return source.mode

    def is_stored_in_colour(name: str) -> bool:
        try:
            return is_colour(source.read(name))
        except (OSError, ValueError):  # decoding it says so
            return False

    return "RGB" if any(map(is_stored_in_colour, source.names)) else "L"


def decode_all(
    read: Callable[[str], bytes], names: list[str], size: int | None, mode: Mode, several: list[str]
) -> Iterator[UInt8[np.ndarray, "C H W"] | ValueError]:
    """The pictures of these names in order, each or why not; `several` gets those of several frames."""

    def decode_named(name: str) -> UInt8[np.ndarray, "C H W"] | ValueError:
        try:
            encoded = read(name)
            if has_several_frames(encoded):
                several.append(name)
            return decode(encoded, size, mode)
        except (OSError, ValueError) as error:
            return ValueError(str(error))

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow decodes outside the interpreter lock
        for start in range(0, len(names), AT_ONCE):
            yield from pool.map(decode_named, names[start : start + AT_ONCE])


def stop_at(path: Path, bad: Sequence[str], skip_bad: bool) -> None:
    """Raise at the first bad image unless bad images are to be skipped."""
    if bad and not skip_bad:
        raise ValueError(
            f"{path}: cannot decode image {bad[0]}; repair it, or leave such pictures out (--on-bad-image skip)"
        )


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
    several: list[str] = field(default_factory=list)
    """Names of pictures of several frames, of which the first was taken."""

    def images(self, among: range | None = None) -> Iterator[UInt8[np.ndarray, "C H W"]]:
        """All pictures (or those `among`) that can be decoded.

        Raises ValueError at one that cannot, unless bad ones are to be skipped, and at one of another shape.
        """
        numbers = range(len(self.source.names)) if among is None else among
        names = self.source.names[numbers.start : numbers.stop]
        pictures = decode_all(self.source.read, names, self.size, self.mode, self.several)
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
                        f"{self.source.path}: images differ in size ({sizes}); expected all of one size, or one to crop"
                        " them to (train --data.size, encode --size)"
                    )
                self.kept.append(number)
                yield picture

    def first_kept(self) -> tuple[int, tuple[int, ...]]:
        """Number and shape of the first picture; ValueError if none could be decoded."""
        if self.first is None:
            none = f"none of its {len(self.skipped)} images can be decoded"
            raise ValueError(f"{self.source.path}: {none}; first: {self.skipped[0]}")
        return self.first
