"""Denoising diffusion (DDPM, ADM, DiT): a Markov chain of T small Gaussian steps from data to noise.

Convention: integer steps t = 0..T-1, 0 nearest the data; x_t = sqrt(abar_t) x + sqrt(1 - abar_t) noise.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from adaln.processes.config import GaussianConfig
from adaln.processes.schedules import Tables, betas, kept_steps, respaced_betas
from adaln.types import Labels, Latents, Model

Steps = Int[Tensor, "B"]
Output = Float[Tensor, "B Cout H W"]
HALF_BIN = 1 / 255
"""Half the width of one of 256 grey levels on [-1, 1]."""
EDGE = 0.999
"""Beyond +-EDGE a value counts as the first or last grey level, whose bin reaches to infinity."""
SMALLEST_PROBABILITY = 1e-12


class TransitionMoments(NamedTuple):
    """Mean, variance and (clipped) log variance of a normal distribution; the last two may broadcast."""

    mean: Tensor
    variance: Tensor
    log_variance: Tensor


class Prediction(NamedTuple):
    """The reverse step p(x_{t-1} | x_t) that a network output stands for, and the data it predicts."""

    mean: Latents
    variance: Tensor
    log_variance: Tensor
    x_start: Latents


class GaussianDiffusion:
    """The process of a `GaussianConfig`, or of the kept steps of one (`respaced`).

    All methods take respaced steps t in 0..num_steps-1; networks are always given original ones (`model_steps`).
    Tables are float64 and rounded to float32 when looked up, as in every published checkpoint's code.
    """

    solver = "ddpm"

    def __init__(self, config: GaussianConfig, kept: list[int] | None = None) -> None:
        full = betas(config.schedule, config.num_steps)
        self.config = config
        self.kept = list(range(config.num_steps)) if kept is None else kept
        self.tables = Tables(full if kept is None else respaced_betas(full, kept))
        self._device_copies: dict[tuple[str, torch.device], Tensor] = {}

    @property
    def num_steps(self) -> int:
        """Steps of this chain, after respacing."""
        return len(self.kept)

    def respaced(self, spec: str) -> "GaussianDiffusion":
        """The same process over fewer of its original steps: `"250"`, `"10,15,20"`, `"ddim50"`; `""` changes nothing.

        Raises ValueError as `kept_steps`.
        """
        return GaussianDiffusion(self.config, kept_steps(spec, self.config.num_steps)) if spec else self

    def model_steps(self, t: Steps) -> Steps:
        """Original steps, which are what the network sees, in t's integer type."""
        return self._on(t.device, "kept")[t].to(t.dtype)

    def at(self, table: str, t: Steps) -> Float[Tensor, "B 1 1 1"]:
        """Entries of a table of `Tables`, float32, on t's device."""
        return self._on(t.device, table)[t][:, None, None, None]

    def _on(self, device: torch.device, name: str) -> Tensor:
        """A lookup table on `device`, copied there once: no step waits for the host."""
        if (name, device) not in self._device_copies:
            table = torch.tensor(self.kept) if name == "kept" else getattr(self.tables, name).float()
            self._device_copies[name, device] = table.to(device)
        return self._device_copies[name, device]

    # The forward chain

    def noised(self, x: Latents, t: Steps, noise: Latents) -> Latents:
        """x_t = sqrt(abar_t) x + sqrt(1 - abar_t) noise."""
        return self.at("sqrt_alphas_cumprod", t) * x + self.at("sqrt_one_minus_alphas_cumprod", t) * noise

    def marginal(self, x: Latents, t: Steps) -> TransitionMoments:
        """q(x_t | x) = N(sqrt(abar_t) x, 1 - abar_t)."""
        mean = self.at("sqrt_alphas_cumprod", t) * x
        return TransitionMoments(
            mean, self.at("one_minus_alphas_cumprod", t), self.at("log_one_minus_alphas_cumprod", t)
        )

    def posterior(self, x: Latents, x_t: Latents, t: Steps) -> TransitionMoments:
        """q(x_{t-1} | x_t, x); variance 0 at t = 0, where the log variance is that of t = 1."""
        mean = self.at("posterior_mean_coef1", t) * x + self.at("posterior_mean_coef2", t) * x_t
        return TransitionMoments(mean, self.at("posterior_variance", t), self.at("posterior_log_variance_clipped", t))

    # What the network says

    def x_start_from_noise(self, x_t: Latents, t: Steps, noise: Latents) -> Latents:
        """Data x = sqrt(1/abar_t) x_t - sqrt(1/abar_t - 1) noise."""
        return self.at("sqrt_recip_alphas_cumprod", t) * x_t - self.at("sqrt_recipm1_alphas_cumprod", t) * noise

    def noise_from_x_start(self, x_t: Latents, t: Steps, x_start: Latents) -> Latents:
        """Noise (sqrt(1/abar_t) x_t - x) / sqrt(1/abar_t - 1)."""
        return (self.at("sqrt_recip_alphas_cumprod", t) * x_t - x_start) / self.at("sqrt_recipm1_alphas_cumprod", t)

    def split(self, output: Output, x_t: Latents) -> tuple[Latents, Latents | None]:
        """Mean and variance halves of an output, in x_t's precision; ValueError where its channels do not fit."""
        channels, expected = x_t.shape[1], x_t.shape[1] * self.config.outputs_per_channel
        if output.shape[1] != expected:
            raise ValueError(
                f"network gives {output.shape[1]} channels, variance {self.config.variance!r} expects {expected} "
                f"for data of {channels}"
            )
        output = output.to(x_t.dtype)
        return (output[:, :channels], output[:, channels:]) if expected > channels else (output, None)

    def predict(self, output: Output, x_t: Latents, t: Steps, *, clip: bool = False) -> Prediction:
        """The reverse step of a network output; `clip` clamps the predicted data to [-1, 1] (pixels, not latents).

        Learned range: log variance = f log(beta) + (1 - f) log(posterior variance), f = (v + 1) / 2 and v unclamped.
        Source: Nichol and Dhariwal 2021 eq. 15.
        """
        first, v = self.split(output, x_t)
        x_start = first if self.config.prediction == "x_start" else self.x_start_from_noise(x_t, t, first)
        x_start = x_start.clamp(-1, 1) if clip else x_start
        mean = self.posterior(x_start, x_t, t).mean
        return Prediction(mean, *self._reverse_variance(v, t), x_start)

    def _reverse_variance(self, v: Latents | None, t: Steps) -> tuple[Tensor, Tensor]:
        if v is not None:
            fraction = (v + 1) / 2
            small, large = self.at("posterior_log_variance_clipped", t), self.at("log_betas", t)
            log_variance = fraction * large + (1 - fraction) * small
            return log_variance.exp(), log_variance
        if self.config.variance == "fixed-large":
            return self.at("large_variance", t), self.at("log_large_variance", t)
        return self.at("posterior_variance", t), self.at("posterior_log_variance_clipped", t)

    # Objectives

    def variational_bound(
        self, output: Output, x: Latents, x_t: Latents, t: Steps, *, clip: bool = False
    ) -> Float[Tensor, "B"]:
        """One term of the bound, bits per dimension: KL(posterior || prediction), or at t = 0 the grey level's cost.

        Source: Ho et al. 2020 eq. 5, 13.
        """
        true, predicted = self.posterior(x, x_t, t), self.predict(output, x_t, t, clip=clip)
        kl = normal_kl(true.mean, true.log_variance, predicted.mean, predicted.log_variance)
        nll = -discretised_log_likelihood(x, predicted.mean, 0.5 * predicted.log_variance)
        return torch.where(t == 0, mean_flat(nll), mean_flat(kl)) / math.log(2)

    def prior_bits(self, x: Latents) -> Float[Tensor, "B"]:
        """KL(q(x_T | x) || N(0, 1)) in bits per dimension."""
        last = self.marginal(x, torch.full((len(x),), self.num_steps - 1, device=x.device))
        zero = torch.zeros_like(last.mean)
        return mean_flat(normal_kl(last.mean, last.log_variance, zero, zero)) / math.log(2)

    def terms(self, output: Output, x: Latents, t: Steps, noise: Latents) -> dict[str, Float[Tensor, "B"]]:
        """Loss per sample and what it is made of: `loss`; `mse` unless the objective is a bound; `vb` if in the sum.

        `output` is what the network gives at (noised(x, t, noise), model_steps(t)).
        """
        x_t = self.noised(x, t, noise)
        if self.config.objective in ("kl", "rescaled-kl"):
            scale = self.num_steps if self.config.objective == "rescaled-kl" else 1.0
            return {"loss": self.variational_bound(output, x, x_t, t) * scale}
        first, v = self.split(output, x_t)
        mse = mean_flat((first - (x if self.config.prediction == "x_start" else noise)) ** 2)
        if v is None:
            return {"loss": mse, "mse": mse}
        # The bound must teach the variance only: its gradient would drown that of the squared error.
        frozen = torch.cat([first.detach(), v], 1)
        scale = self.num_steps / 1000 if self.config.objective == "rescaled-mse" else 1.0
        vb = self.variational_bound(frozen, x, x_t, t) * scale
        return {"loss": mse + vb, "mse": mse, "vb": vb}

    def draw(self, shape: Sequence[int], rng: torch.Generator) -> tuple[Steps, Latents]:
        """Uniform steps, then standard normal noise, for latents of `shape`."""
        t = torch.randint(self.num_steps, (shape[0],), generator=rng, device=rng.device)
        return t, torch.randn(shape, generator=rng, device=rng.device)

    def equidistant(self, count: int) -> Steps:
        """The middles of `count` equal parts of the chain, rounded down."""
        return (torch.arange(count) * 2 + 1) * self.num_steps // (2 * count)

    def loss(self, model: Model, x: Latents, y: Labels | None, t: Steps, noise: Latents) -> Float[Tensor, "B"]:
        """Loss per sample at steps t with that noise: what `draw` gives, in training."""
        output = model(self.noised(x, t, noise), self.model_steps(t), y)
        return self.terms(output, x, t, noise)["loss"]


def normal_kl(mean1: Tensor, log_variance1: Tensor, mean2: Tensor, log_variance2: Tensor) -> Tensor:
    """KL(N(mean1, variance1) || N(mean2, variance2)) in nats, elementwise with broadcasting."""
    ratio = torch.exp(log_variance1 - log_variance2)
    distance = (mean1 - mean2) ** 2 * torch.exp(-log_variance2)
    return 0.5 * (-1.0 + log_variance2 - log_variance1 + ratio + distance)


def approx_normal_cdf(x: Tensor) -> Tensor:
    """Standard normal distribution function by the tanh approximation, error below 1e-3."""
    return 0.5 * (1.0 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def discretised_log_likelihood(x: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Log probability (nats) of the grey level of `x` under N(mean, std^2), elementwise; probabilities stop at 1e-12.

    Source: Ho et al. 2020 eq. 13.
    """
    below = approx_normal_cdf((x - mean - HALF_BIN) * torch.exp(-log_std))
    above = approx_normal_cdf((x - mean + HALF_BIN) * torch.exp(-log_std))
    probability = torch.where(x < -EDGE, above, torch.where(x > EDGE, 1 - below, above - below))
    return probability.clamp(min=SMALLEST_PROBABILITY).log()


def mean_flat(x: Float[Tensor, "B *rest"]) -> Float[Tensor, "B"]:
    """Mean over everything but the batch."""
    return x.flatten(1).mean(1)
