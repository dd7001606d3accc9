"""Stochastic interpolants (flow matching, SiT): a network learns how a path from noise to data moves.

Convention: real times t in [0, 1], 1 = data; x_t = alpha_t x + sigma_t noise; networks see t itself, not 1000 t.
alpha rises from 0 (VP: nearly 0) to 1 while sigma falls from 1 to 0.
"""

import math
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from adaln.processes.config import InterpolantConfig
from adaln.processes.gaussian import mean_flat
from adaln.processes.registry import Form
from adaln.registry import Registry
from adaln.types import Labels, Latents, Model

Quantity = Literal["velocity", "noise", "score", "data"]
RealTimes = Float[Tensor, "B"]
Output = Float[Tensor, "B Cout H W"]

SBDM_EPS = 0.02
"""Where an SDE of form sbdm starts if nothing is said: its diffusion is infinite at t = 0 on paths with alpha_0 = 0."""
BETA_MIN, BETA_MAX = 0.1, 20.0
"""Ends of the linear beta(t) of the variance-preserving diffusion (Song et al. 2021, appendix C)."""


class Coefficients(NamedTuple):
    """The four coefficients of a path, and the one combination that needs its closed form at the ends."""

    alpha_t: Tensor
    sigma_t: Tensor
    d_alpha_t: Tensor
    d_sigma_t: Tensor
    score_weight_t: Tensor
    """V = (d_alpha / alpha) sigma^2 - sigma d_sigma, the score's weight in the velocity; infinite where alpha = 0."""


ProbabilityPath = Callable[[Float[Tensor, "*any"]], Coefficients]


def linear(t: Float[Tensor, "*any"]) -> Coefficients:
    """alpha = t, sigma = 1 - t (rectified flow): constant speed. V = (1 - t) / t."""
    one = torch.ones_like(t)
    return Coefficients(t, 1 - t, one, -one, (1 - t) / t)


def gvp(t: Float[Tensor, "*any"]) -> Coefficients:
    """alpha = sin(pi t / 2), sigma = cos(pi t / 2): variance preserving. V = (pi / 2) sigma / alpha."""
    rate = math.pi / 2
    alpha, sigma = torch.sin(rate * t), torch.sin(rate * (1 - t))  # the sine of 1 - t is exactly 0 at t = 1
    return Coefficients(alpha, sigma, rate * sigma, -rate * alpha, rate * sigma / alpha)


def vp(t: Float[Tensor, "*any"]) -> Coefficients:
    """alpha = exp(l), sigma = sqrt(1 - exp(2 l)), l = -(1-t)^2 (20 - 0.1) / 4 - (1-t) 0.1 / 2. V = l' = beta / 2.

    alpha is 0.0066 at t = 0; the derivative of sigma is infinite at t = 1.
    """
    s = 1 - t
    log_alpha = -0.25 * s**2 * (BETA_MAX - BETA_MIN) - 0.5 * s * BETA_MIN
    half_beta = 0.5 * s * (BETA_MAX - BETA_MIN) + 0.5 * BETA_MIN
    # expm1 would keep digits that float32 loses near t = 1 (3e-4 of sigma at 0.999), but published samples lost them.
    alpha, sigma = log_alpha.exp(), (1 - torch.exp(2 * log_alpha)).clamp(min=0).sqrt()
    return Coefficients(alpha, sigma, half_beta * alpha, -half_beta * alpha**2 / sigma, half_beta)


PATHS: Registry[ProbabilityPath] = Registry("path", {"linear": linear, "gvp": gvp, "vp": vp})


class Interpolant:
    """The process of an `InterpolantConfig`."""

    solver = "heun"

    def __init__(self, config: InterpolantConfig) -> None:
        self.config = config
        self.path = PATHS[config.path]

    def coefficients(self, t: RealTimes) -> Coefficients:
        """The path's coefficients, shaped to multiply latents."""
        return self.path(t[:, None, None, None])

    # Intervals of time

    def default_eps(self, *, sampling: bool) -> float:
        """Distance from the singular ends if nothing is said: vp 1e-5 in training, 1e-3 in sampling; else 1e-3 or 0."""
        if self.config.path == "vp":
            return 1e-3 if sampling else 1e-5
        return 0.0 if self.config.prediction == "velocity" else 1e-3

    def interval(
        self, eps: float, *, form: Form | None = None, last_step_size: float = 0.0, reverse: bool = False
    ) -> tuple[float, float]:
        """Times (t0, t1) of an ODE (`form` None), or of an SDE that leaves `last_step_size` to its last step.

        t0 is eps where the drift is singular at t = 0: on linear and gvp, for noise and score prediction and for an SDE
        of form sbdm; else 0. t1 is 1 for the ODE of a velocity on linear and gvp; else 1 - eps, or 1 - last_step_size.
        `reverse` maps both by t -> 1 - t. Source: Ma et al. 2024 (SiT), appendix A.
        """
        vp, velocity = self.config.path == "vp", self.config.prediction == "velocity"
        t0 = 0.0 if vp or (velocity and form != "sbdm") else eps
        t1 = 1.0 if form is None and velocity and not vp else 1 - eps
        if form is not None and last_step_size > 0:
            t1 = 1 - last_step_size
        return (1 - t0, 1 - t1) if reverse else (t0, t1)

    def sampling_interval(
        self, eps: float | None, *, form: Form | None = None, last_step_size: float = 0.0, reverse: bool = False
    ) -> tuple[float, float]:
        """`interval` with the default eps for None; ValueError where a given eps leaves a singular end inside."""
        sbdm = form == "sbdm" and self.config.path != "vp"
        if eps is None:
            eps = self.default_eps(sampling=True) or (SBDM_EPS if sbdm else 0.0)
        singular = self.config.path == "vp" or self.config.prediction != "velocity" or sbdm
        if not 0 <= eps < 0.5 or (eps == 0 and singular):
            low = "0 <" if singular else "0 <="
            near = SBDM_EPS if sbdm else self.default_eps(sampling=True)
            raise ValueError(f"eps is {eps}, expected {low} eps < 0.5 for this process and solver (nearest: {near})")
        return self.interval(eps, form=form, last_step_size=last_step_size, reverse=reverse)

    # Conversions

    def convert(self, value: Latents, x_t: Latents, t: RealTimes, source: Quantity, target: Quantity) -> Latents:
        """One of velocity, noise, score and data from another, given the state x_t.

        From velocity v: data = (d_sigma x_t - sigma v) / w, noise = (alpha v - d_alpha x_t) / w,
        w = alpha d_sigma - d_alpha sigma; velocity = d_alpha data + d_sigma noise; score = -noise / sigma.
        Defined for 0 < t < 1; ValueError outside (the check waits for the device; solvers keep to an interval).
        """
        if not bool(((t > 0) & (t < 1)).all()):
            raise ValueError(f"times reach from {t.min():g} to {t.max():g}, expected 0 < t < 1 to convert {source}")
        return self._convert(value, x_t, t, source, target)

    def _convert(self, value: Latents, x_t: Latents, t: RealTimes, source: Quantity, target: Quantity) -> Latents:
        if source == target:
            return value
        at = self.coefficients(t)
        data, noise = _data_and_noise(value, x_t, at, source)
        if target == "velocity":
            return at.d_alpha_t * data + at.d_sigma_t * noise
        return data if target == "data" else noise if target == "noise" else -noise / at.sigma_t

    def read(self, output: Output, x_t: Latents, t: RealTimes, target: Quantity) -> Latents:
        """What the network's output says of `target`, in x_t's precision; ends of time as in `interval`."""
        _check_width(output, x_t)
        return self._convert(output.to(x_t.dtype), x_t, t, self.config.prediction, target)

    # The path and its loss

    def noised(self, x: Latents, t: RealTimes, noise: Latents) -> Latents:
        """x_t = alpha_t x + sigma_t noise."""
        at = self.coefficients(t)
        return at.alpha_t * x + at.sigma_t * noise

    def velocity(self, x: Latents, t: RealTimes, noise: Latents) -> Latents:
        """Speed of the path: d_alpha_t x + d_sigma_t noise."""
        at = self.coefficients(t)
        return at.d_alpha_t * x + at.d_sigma_t * noise

    def terms(self, output: Output, x: Latents, t: RealTimes, noise: Latents) -> dict[str, Float[Tensor, "B"]]:
        """Loss per sample: |v - velocity|^2, w |n - noise|^2 or w |sigma s + noise|^2, averaged over all but the batch.

        `output` is what the network gives at (noised(x, t, noise), t).
        """
        _check_width(output, x)
        if self.config.prediction == "velocity":
            return {"loss": mean_flat((output - self.velocity(x, t, noise)) ** 2)}
        at = self.coefficients(t)
        error = output - noise if self.config.prediction == "noise" else output * at.sigma_t + noise
        return {"loss": mean_flat(self._weight(at) * error**2)}

    def _weight(self, at: Coefficients) -> Tensor:
        if self.config.weighting == "velocity":
            return (at.score_weight_t / at.sigma_t) ** 2
        if self.config.weighting == "likelihood":
            return at.score_weight_t / at.sigma_t**2
        return torch.ones_like(at.sigma_t)

    def draw(self, shape: Sequence[int], rng: torch.Generator) -> tuple[RealTimes, Latents]:
        """Uniform times of the training interval, and standard normal noise (drawn first), for latents of `shape`."""
        noise = torch.randn(shape, generator=rng, device=rng.device)
        t0, t1 = self.training_interval
        return t0 + (t1 - t0) * torch.rand(shape[0], generator=rng, device=rng.device), noise

    @property
    def training_interval(self) -> tuple[float, float]:
        """First and last of the times that are trained at."""
        return self.interval(self.default_eps(sampling=False) if self.config.eps is None else self.config.eps)

    def equidistant(self, count: int) -> RealTimes:
        """The middles of `count` equal parts of the training interval."""
        t0, t1 = self.training_interval
        return t0 + (t1 - t0) * (torch.arange(count) + 0.5) / count

    def loss(self, model: Model, x: Latents, y: Labels | None, t: RealTimes, noise: Latents) -> Float[Tensor, "B"]:
        """Loss per sample at times t with that noise: what `draw` gives, in training."""
        return self.terms(model(self.noised(x, t, noise), t, y), x, t, noise)["loss"]


def _check_width(output: Tensor, x: Tensor) -> None:
    if output.shape != x.shape:
        raise ValueError(f"network gives {output.shape[1]} channels, expected the data's {x.shape[1]}")


def _data_and_noise(value: Tensor, x_t: Tensor, at: Coefficients, source: Quantity) -> tuple[Tensor, Tensor]:
    if source == "velocity":
        w = at.alpha_t * at.d_sigma_t - at.d_alpha_t * at.sigma_t
        return (at.d_sigma_t * x_t - at.sigma_t * value) / w, (at.alpha_t * value - at.d_alpha_t * x_t) / w
    if source == "data":
        return value, (x_t - at.alpha_t * value) / at.sigma_t
    noise = value if source == "noise" else -at.sigma_t * value
    return (x_t - at.sigma_t * noise) / at.alpha_t, noise
