"""Power-function averages of the weights: a run keeps a few while it trains, any other is put together afterwards.

The average at step T weighs the weights of step t by (t / T)^gamma. Its width is the standard deviation of that profile
relative to T: 0.05 looks back over some 5 % of the run, however long it is.

Source: Karras et al., "Analyzing and improving the training dynamics of diffusion models" (2024), section 3 and
appendix C.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float64
from safetensors import safe_open
from torch import Tensor

from adaln.specs import check_width

EVERY = 4
"""Updates between two looks at the weights: a quarter of the cost, and no width of use is as short."""

PREFIX = "average-"
"""Of the names of averages in the training state of a checkpoint: `average-WIDTH/PARAMETER`."""


@dataclass(frozen=True, slots=True)
class Profile:
    """How the average at a step weighs the weights of the steps before it."""

    step: int
    width: float

    @property
    def gamma(self) -> float:
        """The exponent: of `(g + 2)^2 (g + 3) width^2 = g + 1` the greatest root."""
        inverse = self.width**-2
        return float(np.roots([1, 7, 16 - inverse, 12 - inverse]).real.max())

    @property
    def kept(self) -> float:
        """What a new look at the weights leaves of the average before it."""
        return float((1 - 1 / (self.step // EVERY)) ** (self.gamma + 1))

    def product(self, other: "Profile") -> float:
        """The inner product of both profiles, each of integral 1, over time."""
        powers, both = (self.gamma + 1, other.gamma + 1), self.gamma + other.gamma + 1
        ends = [power * np.log(each.step) for power, each in zip(powers, (self, other), strict=True)]
        return float(powers[0] * powers[1] / both * np.exp(both * np.log(min(self.step, other.step)) - sum(ends)))


def mixture(wanted: Profile, kept: Sequence[Profile]) -> tuple[Float64[np.ndarray, "K"], float]:
    """The factors by which the kept averages add up to nearly the wanted one, and how far off they are.

    Least squares over the profiles; the distance is relative to the wanted profile's norm.
    """
    products = np.array([[one.product(other) for other in kept] for one in kept])
    target = np.array([one.product(wanted) for one in kept])
    factors = np.linalg.lstsq(products, target, rcond=1e-12)[0]
    square = wanted.product(wanted)
    left = square - 2 * factors @ target + factors @ products @ factors
    return factors, float(max(left, 0.0) / square) ** 0.5


def kept_averages(folders: Sequence[Path], width: float) -> dict[Profile, Path]:
    """The averages in the training state of these checkpoints, of which that of a `width` is to be made.

    Raises ValueError where the last of them holds none.
    """
    check_width("ema", width)
    if (last := int(folders[-1].name)) < EVERY:
        raise ValueError(f"ema is {width:g}, but {folders[-1]} is of step {last}: averages begin with step {EVERY}")
    found: dict[Profile, Path] = {}
    for folder in (each for each in folders if int(each.name) >= EVERY):  # before, the averages are the start
        file = folder / "training.safetensors"
        with safe_open(file, "pt") as tensors:
            heads = {key.split("/")[0] for key in [*tensors.keys()] if key.startswith(PREFIX)}
        found |= {Profile(int(folder.name), float(head.removeprefix(PREFIX))): file for head in sorted(heads)}
    if not found or max(profile.step for profile in found) < last:
        raise ValueError(
            f"ema is {width:g}, but {folders[-1]} keeps no power-function averages; those of a run begun with"
            " --optim.ema-widths 0.05 0.1 do"
        )
    return found


def distance(folders: Sequence[Path], width: float) -> float:
    """How far the profile of `average` is from the wanted one, relative to its norm: 0 is exact."""
    return mixture(Profile(int(folders[-1].name), width), [*kept_averages(folders, width)])[1]


def average(folders: Sequence[Path], width: float) -> dict[str, Tensor]:
    """The average of that width at the last of these checkpoints, by parameter, in float64."""
    kept = kept_averages(folders, width)
    factors, _ = mixture(Profile(int(folders[-1].name), width), [*kept])
    total: dict[str, Tensor] = {}
    for factor, (profile, file) in zip(factors, kept.items(), strict=True):
        head = f"{PREFIX}{profile.width:g}/"
        with safe_open(file, "pt") as tensors:
            for key in [key for key in [*tensors.keys()] if key.startswith(head)]:
                part, name = tensors.get_tensor(key).to(torch.float64) * factor, key.removeprefix(head)
                total[name] = total[name].add_(part) if name in total else part
    return total
