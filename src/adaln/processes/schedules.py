"""Noise schedules of denoising diffusion, and the choice of the steps that a sampler keeps.

Everything is float64; a step t runs over 0..T-1, and t = 0 is the one closest to the data.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from adaln.processes.config import Schedule

MAX_COSINE_BETA = 0.999
COSINE_OFFSET = 0.008


def betas(schedule: Schedule, num_steps: int) -> Float[Tensor, "T"]:
    """Variance of the noise that each step adds.

    linear: T values from 0.1/T to 20/T (1e-4 to 0.02 at T = 1000).
    squaredcos_cap_v2: beta_i = min(1 - f((i+1)/T) / f(i/T), 0.999), f(u) = cos^2(pi/2 (u + 0.008) / 1.008).
    Raises ValueError where a beta is not below 1: the linear schedule needs more than 20 steps.
    Source: Ho et al. 2020 (linear), Nichol and Dhariwal 2021 eq. 17 (cosine).
    """
    if num_steps < 1:
        raise ValueError(f"num_steps is {num_steps}, expected at least 1")
    if schedule == "squaredcos_cap_v2":
        u = torch.arange(num_steps + 1, dtype=torch.float64) / num_steps
        f = torch.cos((u + COSINE_OFFSET) / (1 + COSINE_OFFSET) * math.pi / 2) ** 2
        return (1 - f[1:] / f[:-1]).clamp(max=MAX_COSINE_BETA)
    if num_steps <= 20:
        raise ValueError(f"num_steps is {num_steps}, expected more than 20 for schedule 'linear' (nearest: 21)")
    scale = 1000 / num_steps
    return torch.linspace(1e-4 * scale, 0.02 * scale, num_steps, dtype=torch.float64)


def kept_steps(spec: str, num_steps: int) -> list[int]:
    """Original steps that a respacing keeps, in increasing order.

    `""`: all. `"ddimN"`: 0, i, 2i, ... for the smallest stride i that gives N steps. `"N"` or `"N1,N2,..."`: T is split
    in equal sections (the first T mod k get one more) and N_j steps are spread over section j, both ends included.
    Raises ValueError where no stride fits, or a section is shorter than its count.
    Source: Dhariwal and Nichol 2021 (strings), Song et al. 2021 (stride).

    >>> kept_steps("5", 1000), kept_steps("ddim4", 1000)
    ([0, 250, 500, 749, 999], [0, 250, 500, 750])
    """
    if not spec:
        return list(range(num_steps))
    is_strided = spec.startswith("ddim")
    try:
        counts = [int(spec.removeprefix("ddim"))] if is_strided else [int(count) for count in spec.split(",")]
    except ValueError:
        raise ValueError(f"respacing {spec!r} is not a step count, counts 'N1,N2,...' or 'ddimN'") from None
    return _strided(counts[0], num_steps) if is_strided else _sections(counts, num_steps)


def _strided(wanted: int, num_steps: int) -> list[int]:
    stride_of = {math.ceil(num_steps / stride): stride for stride in range(num_steps - 1, 0, -1)}
    if wanted not in stride_of:
        near = min(stride_of, key=lambda count: (abs(count - wanted), count), default=1)
        raise ValueError(f"respacing 'ddim{wanted}' fits no whole stride of {num_steps} steps (nearest: 'ddim{near}')")
    return list(range(0, num_steps, stride_of[wanted]))


def _sections(counts: list[int], num_steps: int) -> list[int]:
    size, longer = divmod(num_steps, len(counts))
    kept: set[int] = set()
    start = 0
    for i, count in enumerate(counts):
        length = size + (i < longer)
        if not 0 <= count <= length:
            raise ValueError(f"respacing asks for {count} of the {length} steps in section {i} (nearest: {length})")
        stride = (length - 1) / (count - 1) if count > 1 else 1.0
        position = 0.0  # accumulated, not multiplied: published step lists depend on its rounding
        for _ in range(count):
            kept.add(start + round(position))
            position += stride
        start += length
    if not kept:
        raise ValueError(f"respacing {','.join(map(str, counts))!r} keeps no step, expected at least one")
    return sorted(kept)


def respaced_betas(betas: Float[Tensor, "T"], kept: list[int]) -> Float[Tensor, "S"]:
    """Betas of the chain that visits only `kept`: beta_j = 1 - abar[kept_j] / abar[kept_{j-1}]."""
    alphas_cumprod = torch.cumprod(1 - betas, 0)[kept]
    previous = torch.cat([alphas_cumprod.new_ones(1), alphas_cumprod[:-1]])
    return 1 - alphas_cumprod / previous


class Tables:
    """What a Gaussian process looks up per step, from the betas of its chain; float64 (T,) on the CPU.

    The posterior variance is 0 at t = 0, so its logarithm takes the entry of t = 1 there; a chain of one step has no
    such entry and takes beta. Source: Ho et al. 2020 eq. 4, 6, 7 and 15.
    """

    def __init__(self, betas: Float[Tensor, "T"]) -> None:
        abar = torch.cumprod(1 - betas, 0)
        prev = torch.cat([abar.new_ones(1), abar[:-1]])
        posterior = betas * (1 - prev) / (1 - abar)
        first = posterior[1:2] if len(betas) > 1 else betas
        self.betas, self.log_betas = betas, betas.log()
        self.alphas_cumprod, self.alphas_cumprod_prev = abar, prev
        self.alphas_cumprod_next = torch.cat([abar[1:], abar.new_zeros(1)])
        self.sqrt_alphas_cumprod, self.sqrt_one_minus_alphas_cumprod = abar.sqrt(), (1 - abar).sqrt()
        self.one_minus_alphas_cumprod, self.log_one_minus_alphas_cumprod = 1 - abar, (1 - abar).log()
        self.sqrt_recip_alphas_cumprod, self.sqrt_recipm1_alphas_cumprod = (1 / abar).sqrt(), (1 / abar - 1).sqrt()
        self.posterior_variance = posterior
        self.posterior_log_variance_clipped = torch.cat([first, posterior[1:]]).log()
        self.posterior_mean_coef1 = betas * prev.sqrt() / (1 - abar)
        self.posterior_mean_coef2 = (1 - prev) * (1 - betas).sqrt() / (1 - abar)
        self.large_variance = torch.cat([first, betas[1:]])
        self.log_large_variance = self.large_variance.log()
