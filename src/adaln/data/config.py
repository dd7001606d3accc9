"""What a user may say about a data set."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

import tyro

from adaln.codec import LEFT_OUT_AT_DEFAULT


@dataclass(frozen=True, slots=True)
class DataConfig:
    """Which images a run learns from."""

    path: str = "digits"
    """`digits` (real 8x8 images, embedded), a folder, zip or tar of images, `hf:NAME`, or what `adaln encode` made.
    FOLDER#ATTRIBUTE: two classes by an attribute of CelebA."""
    size: int | None = None
    """Side in pixels after ADM's centre crop; None: the set's own size."""
    flip: bool = False
    """Mirror each image left to right with probability 1/2."""
    conditional: bool = True
    """False: ignore the labels and learn an unconditional model."""
    on_bad_image: Annotated[Literal["stop", "skip"], tyro.conf.arg(prefix_name=False)] = "stop"
    """At an image that cannot be decoded: stop with its name, or go on without it and report it."""
    held_out: float = field(default=0.0, metadata=LEFT_OUT_AT_DEFAULT)
    """Share of the pictures that is never learned from, chosen by their content: the same in every run and order."""

    def __post_init__(self) -> None:
        if not 0 <= self.held_out < 1:
            raise ValueError(f"data.held_out is {self.held_out}; expected a share of the pictures, 0 <= share < 1")
