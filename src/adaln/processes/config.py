"""The choices of a process and of its guidance, as data: nothing here needs torch."""

from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Literal

from adaln.specs import ProcessConfig

if TYPE_CHECKING:
    import adaln.types

Schedule = Literal["linear", "squaredcos_cap_v2"]


@dataclass(frozen=True)
class GaussianConfig(ProcessConfig):
    """Denoising diffusion; the defaults are DiT's."""

    num_steps: int = 1000
    """Length T of the chain."""
    schedule: Schedule = "linear"
    """How the betas grow: linear, or squared cosine capped at 0.999."""
    variance: Literal["learned-range", "fixed-small", "fixed-large"] = "learned-range"
    """Reverse variance: between posterior and beta as the network says, posterior (small), or beta (large)."""
    prediction: Literal["noise", "x_start"] = "noise"
    """What the first output channels predict."""
    objective: Literal["mse", "rescaled-mse", "kl", "rescaled-kl"] = "mse"
    """mse: squared error, plus the bound (bits) if the variance is learned; rescaled-mse: that bound times T/1000;
    kl: the bound alone; rescaled-kl: the bound times T. T counts the respaced steps."""

    @property
    def outputs_per_channel(self) -> int:
        return 2 if self.variance == "learned-range" else 1

    def build(self) -> "adaln.types.Process":
        from adaln.processes.gaussian import GaussianDiffusion

        return GaussianDiffusion(self)


@dataclass(frozen=True)
class InterpolantConfig(ProcessConfig):
    """Interpolant between noise and data; the defaults are SiT's."""

    path: Literal["linear", "gvp", "vp"] = "linear"
    """linear: straight lines; gvp: sine and cosine; vp: the variance-preserving diffusion."""
    prediction: Literal["velocity", "noise", "score"] = "velocity"
    """What the network predicts."""
    weighting: Literal["none", "velocity", "likelihood"] = "none"
    """Weight of the loss of noise and score: 1, (V/sigma)^2 (as if velocity were learned), V/sigma^2 (likelihood)."""
    eps: float | None = None
    """Training times keep this far from a singular end; default 1e-5 (vp), 1e-3 (noise, score), 0 (velocity)."""

    def __post_init__(self) -> None:
        if self.prediction == "velocity" and self.weighting != "none":
            raise ValueError(f"weighting {self.weighting!r} has no effect on velocity prediction, expected 'none'")
        if self.eps is not None and not 0 <= self.eps < 0.5:
            raise ValueError(f"eps is {self.eps}, expected 0 <= eps < 0.5")

    @property
    def outputs_per_channel(self) -> int:
        return 1

    def build(self) -> "adaln.types.Process":
        from adaln.processes.interpolant import Interpolant

        return Interpolant(self)


@dataclass(frozen=True)
class Guidance:
    """Classifier-free guidance: worse + scale * (better - worse)."""

    scale: float = 1.0
    """1 is no guidance; published figures use 1.5 (FID) and 4 (pictures)."""
    channels: Literal["3", "all"] = "3"
    """Guided data channels: the first 3 (as DiT's and SiT's samplers) or all. Learned variances are never guided."""
    interval: tuple[float, float] | None = None
    """Guide only at lo <= t <= hi, in the process's own time (original steps, or reals in [0, 1]); default: always."""

    def __post_init__(self) -> None:
        if not isfinite(self.scale):
            raise ValueError(f"guidance scale is {self.scale}; expected a finite number")
        if self.interval is not None and not self.interval[0] <= self.interval[1]:
            raise ValueError(f"guidance interval is {self.interval}, expected lo <= hi")
