"""From images to what a feature network takes: resized, cropped and normalised as the network's folder says; or resized
as TensorFlow did when Inception was trained."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float32, UInt8
from torch import Tensor

FILTERS = {2: "bilinear", 3: "bicubic"}
"""Pillow's numbers of the filters that torch has with antialiasing, which are those that feature networks come with."""
FOLLOWED = frozenset({"do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_convert_rgb"})
"""What a preprocessor_config.json may ask for."""
WARPED_FROM = 384
"""ConvNeXt's processor crops below this size, and resizes both sides from there on."""


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """What is done to each image; a function of that image alone."""

    resize: int | tuple[int, int] | None
    """The shorter side, or height and width; None: as it is."""
    crop: tuple[int, int] | None
    """Height and width of the centre that is kept."""
    interpolation: str
    """Antialiased, in bytes: what Pillow does, up to one level."""
    factor: float
    """What bytes are multiplied by."""
    mean: tuple[float, ...]
    std: tuple[float, ...]
    odd_margin: Literal["down", "even"] = "down"
    """Where half a margin is no whole number of pixels: rounded down, or to the next even number as Python rounds."""

    def __call__(self, images: UInt8[Tensor, "B C H W"]) -> Float32[Tensor, "B 3 h w"]:
        """The network's input; grey images are taken as RGB."""
        images = images.expand(-1, 3, -1, -1)
        if (size := self._size(images.shape[2], images.shape[3])) != tuple(images.shape[2:]):
            images = F.interpolate(images.contiguous(), size, mode=self.interpolation, antialias=True)
        if self.crop:
            images = self._cropped(images)
        mean, std = (torch.tensor(values)[:, None, None] for values in (self.mean, self.std))
        return (images.to(torch.float32) * self.factor - mean) / std

    def _size(self, height: int, width: int) -> tuple[int, int]:
        if isinstance(self.resize, int):
            short = min(height, width)
            return int(self.resize * height / short), int(self.resize * width / short)
        return self.resize or (height, width)

    def _cropped(self, images: UInt8[Tensor, "B C H W"]) -> UInt8[Tensor, "B C h w"]:
        height, width = self.crop or images.shape[2:]
        margins = images.shape[2] - height, images.shape[3] - width
        if min(margins) < 0:
            got = "x".join(map(str, images.shape[2:]))
            raise ValueError(f"images of {got} pixels before a crop to {height}x{width}; expected no smaller ones")
        top, left = (round(margin / 2) if self.odd_margin == "even" else margin // 2 for margin in margins)
        return images[:, :, top : top + height, left : left + width]

    def words(self) -> dict[str, str]:
        """What a record says of it."""
        resized = f"the shorter side to {self.resize}" if isinstance(self.resize, int) else _by(self.resize)
        return {
            "resize": f"{resized}, {self.interpolation}, antialiased" if self.resize else "none",
            "crop": f"{_by(self.crop)} of the centre" if self.crop else "none",
            "factor": f"{self.factor:g}",
            "mean": _numbers(self.mean),
            "std": _numbers(self.std),
        }


def of_transformers(config: Mapping[str, Any]) -> Preprocessing:
    """What a preprocessor_config.json asks for; `ValueError` for what is not followed here."""
    asked = sorted(name for name, value in config.items() if name.startswith("do_") and value)
    if strange := [name for name in asked if name not in FOLLOWED]:
        raise ValueError(f"it asks for {', '.join(strange)}; expected {', '.join(sorted(FOLLOWED))} alone")
    kind = str(config.get("image_processor_type") or config.get("feature_extractor_type") or "")
    resize, crop = None, None
    if config.get("do_resize", True):
        resize, crop = _resized(config, kind)
    if config.get("do_center_crop"):
        crop = _both(_sides(config.get("crop_size"), "crop_size", shorter=False))
    normalises = config.get("do_normalize", True)
    return Preprocessing(
        resize,
        crop,
        _filter(config.get("resample"), FILTERS) if resize else "none",
        float(config.get("rescale_factor", 1 / 255)) if config.get("do_rescale", True) else 1.0,
        _channels(config.get("image_mean"), "image_mean") if normalises else (0.0, 0.0, 0.0),
        _channels(config.get("image_std"), "image_std") if normalises else (1.0, 1.0, 1.0),
    )


def of_timm(config: Mapping[str, Any]) -> Preprocessing:
    """What timm's data configuration of a network asks for; `ValueError` for what is not followed here."""
    mode, (channels, height, width) = config["crop_mode"], config["input_size"]
    if mode not in ("center", "squash") or channels != 3 or (mode == "center" and height != width):
        got = f"crop_mode {mode!r} to {channels}x{height}x{width}"
        raise ValueError(f"it asks for {got}; expected 'center' to a square of 3 channels, or 'squash'")
    scaled = int(height / config["crop_pct"]), int(width / config["crop_pct"])
    return Preprocessing(
        scaled[0] if mode == "center" else scaled,
        (height, width),
        _filter(config["interpolation"], {name: name for name in FILTERS.values()}),
        1 / 255,
        _channels(config["mean"], "mean"),
        _channels(config["std"], "std"),
        odd_margin="even",
    )


def _resized(config: Mapping[str, Any], kind: str) -> tuple[int | tuple[int, int], tuple[int, int] | None]:
    """What images are resized to; and the crop that goes with it in ConvNeXt's processor."""
    shorter = kind.startswith(("CLIP", "Bit", "ConvNext", "ChineseCLIP"))
    size = _sides(config.get("size"), "size", shorter)
    if not kind.startswith("ConvNext") or not isinstance(size, int):
        return size, None
    if size >= WARPED_FROM:
        return (size, size), None
    return int(size / config.get("crop_pct", 224 / 256)), (size, size)


def _sides(value: Any, name: str, shorter: bool) -> int | tuple[int, int]:
    """A size as files have it: a number, which is the shorter side or both, or sides by name."""
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value if shorter else (value, value)
    if isinstance(value, Mapping):
        sides = {side: number for side, number in value.items() if number is not None}
        positive = all(isinstance(number, int) and number > 0 for number in sides.values())
        if positive and sides.keys() == {"height", "width"}:
            return sides["height"], sides["width"]
        if positive and sides.keys() == {"shortest_edge"}:
            return int(sides["shortest_edge"])
    raise ValueError(f"its {name} is {value!r}; expected a number, a height and width, or a shortest_edge")


def _both(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size


def _filter(value: Any, known: Mapping[Any, str]) -> str:
    if value not in known:
        raise ValueError(f"it resizes by the filter {value!r}; expected {' or '.join(map(repr, known))}")
    return known[value]


def _channels(value: Any, name: str) -> tuple[float, ...]:
    values = tuple(value) if isinstance(value, list | tuple) else ()
    if len(values) != 3 or not all(isinstance(number, int | float) for number in values):
        raise ValueError(f"its {name} is {value!r}; expected three numbers")
    return tuple(map(float, values))


def _by(size: tuple[int, int] | None) -> str:
    return "x".join(map(str, size or ()))


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def resize_legacy(x: Float32[Tensor, "B C H W"], side: int) -> Float32[Tensor, "B C S S"]:
    """TensorFlow 1's bilinear resize: corners not aligned, no half-pixel shift, no antialiasing.

    Output pixel i reads position `i * size / side`, between its floor and the next pixel (the last one repeated).
    PyTorch's `interpolate` has no such mode.
    """
    top, bottom, rows = _taps(x.shape[2], side, x.device)
    left, right, columns = _taps(x.shape[3], side, x.device)
    near = x[..., left]
    across = near + (x[..., right] - near) * columns  # `torch.lerp` rounds otherwise
    near = across[:, :, top]
    return near + (across[:, :, bottom] - near) * rows[:, None]


def _taps(size: int, side: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    scale = torch.tensor(size, dtype=torch.float32, device=device) / side
    position = torch.arange(side, dtype=torch.float32, device=device) * scale
    lower = position.floor().long()
    return lower, (lower + 1).clamp(max=size - 1), position - lower
