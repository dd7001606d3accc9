"""One picture: encoded bytes -> upright 8-bit grey or RGB pixels -> the square that a model is trained on."""

import io
from typing import Literal

import numpy as np
from jaxtyping import UInt8
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".jp2", ".avif")
"""File endings that make a file a picture; all others are passed over."""


def decode(encoded: bytes, size: int | None, mode: Literal["L", "RGB"]) -> UInt8[np.ndarray, "C H W"]:
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


def eight_bit(picture: Image.Image, stored_as: str | None, mode: Literal["L", "RGB"]) -> Image.Image:
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
