"""What the callbacks take besides a folder."""

from collections.abc import Collection, Sequence
from typing import TypedDict

from torch import nn

from adaln.conditioning import Family
from adaln.registry import nearest
from adaln.trackers import Tracker


class Settings(TypedDict, total=False):
    """As of `adaln.watch`."""

    every: int | Collection[int]
    family: str | Family | None
    track: Sequence[str | Tracker]


def part_of(model: nn.Module, name: str) -> nn.Module:
    """The network inside what a trainer trains; `ValueError` with the nearest where it has none of that name."""
    parts: dict[str, nn.Module] = dict(model.named_modules(remove_duplicate=False))
    if name not in parts:
        raise ValueError(f"{type(model).__name__} has no part {name!r}{nearest(name, parts)}; expected a module's name")
    return parts[name]
