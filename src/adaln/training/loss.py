"""The loss of a step: a pure function of (weights, seed, step), whatever the number of processes."""

# mypy: disable-error-code="no-any-return,no-untyped-call"
# torch types autograd functions as Any.

import math
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from adaln.data import Batches, Prefetched
from adaln.execution import under_autocast
from adaln.kernels import LANES, call, fit, have_kernels
from adaln.processes.gaussian import GaussianDiffusion
from adaln.rng import generator
from adaln.runs import Run
from adaln.types import Labels, Latents, Times

SMALL = 1 << 16
"""Values of a batch up to which one thread's loop is no slower than torch's with several."""


def batch_loss(run: Run, model: nn.Module, batches: Batches | Prefetched, step: int) -> Float[Tensor, "B"]:
    """Loss per sample on this process's share of a step's batch: a pure function of (weights, seed, step, share)."""
    return loss_of(run, model, inputs(run, batches, step))


def loss_of(run: Run, model: nn.Module, batch: "Inputs") -> Float[Tensor, "B"]:
    """Loss per sample, the forward in the run's precision."""
    network, process = under_autocast(model, run.config.precision), run.process
    if isinstance(process, GaussianDiffusion) and is_small(process, batch):
        x_t = process.noised(batch.x, batch.t, batch.noise)
        output = network(x_t, process.model_steps(batch.t), batch.y)
        process.split(output, x_t)
        return LearnedRangeLoss.apply(output.contiguous(), process, batch, x_t)
    return process.loss(network, *batch)


def is_small(process: GaussianDiffusion, batch: "Inputs") -> bool:
    """Whether the compiled loops of `LearnedRangeLoss` are for this batch."""
    config, x = process.config, batch.x
    is_meant = config.variance == "learned-range" and config.objective in ("mse", "rescaled-mse")
    can = is_meant and fit([x, batch.noise]) and x[0].numel() % LANES == 0 and batch.t.dtype == torch.int64
    return can and x.numel() <= SMALL and have_kernels()


@lru_cache(8)
def moments(process: GaussianDiffusion) -> Float[Tensor, "T 8"]:
    """As `moments` of loss.c has them."""
    of = process.tables
    means = (
        of.sqrt_alphas_cumprod,
        of.sqrt_one_minus_alphas_cumprod,
        of.posterior_mean_coef1,
        of.posterior_mean_coef2,
        of.sqrt_recip_alphas_cumprod,
        of.sqrt_recipm1_alphas_cumprod,
    )
    return torch.stack([*means, of.posterior_log_variance_clipped, of.log_betas], 1).float()


@lru_cache(8)
def bound_scale(process: GaussianDiffusion) -> Float[Tensor, ""]:
    """What a term of the bound counts for, in nats."""
    rescaled = process.config.objective == "rescaled-mse"
    return torch.tensor((process.num_steps / 1000 if rescaled else 1.0) / math.log(2), dtype=torch.float64)


class LearnedRangeLoss(torch.autograd.Function):
    """`terms(...)["loss"]` of a small batch in one pass, and its first derivatives by the output (`kernels/loss.c`).

    The squared error, and the bound by which the variance learns: in torch some 150 operations on a few values each.
    """

    @staticmethod
    def forward(ctx: Any, output: Tensor, process: GaussianDiffusion, batch: "Inputs", x_t: Latents) -> Tensor:
        x, _, t, noise = batch
        is_start = process.config.prediction == "x_start"
        losses, slopes = x.new_empty(len(x)), torch.empty_like(output)
        given = output, x, x_t, x if is_start else noise, t, moments(process), bound_scale(process)
        call("learned_range_loss", *given, losses, slopes, len(x), x[0].numel(), is_start)
        ctx.save_for_backward(slopes)
        return losses

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (slopes,) = ctx.saved_tensors
        return slopes * gradient[:, None, None, None], None, None, None


class Inputs(NamedTuple):
    """What the loss of a step is computed from, besides the weights."""

    x: Latents
    y: Labels | None
    t: Times
    noise: Latents

    def split(self, size: int) -> Iterator["Inputs"]:
        """Consecutive parts of `size` samples."""
        for start in range(0, len(self.x), size):
            rows = slice(start, start + size)
            yield Inputs(self.x[rows], None if self.y is None else self.y[rows], self.t[rows], self.noise[rows])


def inputs(run: Run, batches: Batches | Prefetched, step: int) -> Inputs:
    """This process's share of a step, on the run's device.

    Label dropout, times and noise are drawn for the batch of all processes together, each of which keeps its own rows.
    """
    x, y = batches.at(step)
    rng = generator("train", run.config.seed, step, device=run.device)
    u = torch.rand(run.config.batch_size, generator=rng, device=run.device)[batches.share]
    t, noise = run.process.draw((run.config.batch_size, *x.shape[1:]), rng)
    if y is not None:
        y = drop_labels(y.to(run.device, non_blocking=True), run.null_label, run.config.model.class_dropout_prob, u)
    return Inputs(x.to(run.device, non_blocking=True), y, t[batches.share], noise[batches.share])


def drop_labels(y: Labels, null_label: int | None, probability: float, u: Float[Tensor, "B"]) -> Labels:
    """Labels, replaced by the null class where u, uniform in [0, 1), is below `probability` (for guidance later)."""
    return y if null_label is None else torch.where(u < probability, null_label, y)
