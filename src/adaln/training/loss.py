"""The loss of a step: a pure function of (weights, seed, step), whatever the number of processes."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from adaln.data import Batches, Prefetched
from adaln.execution import under_autocast
from adaln.rng import generator
from adaln.runs import Run
from adaln.types import Labels, Latents, Times


def batch_loss(run: Run, model: nn.Module, batches: Batches | Prefetched, step: int) -> Float[Tensor, "B"]:
    """Loss per sample on this process's share of a step's batch: a pure function of (weights, seed, step, share)."""
    return loss_of(run, model, inputs(run, batches, step))


def loss_of(run: Run, model: nn.Module, batch: "Inputs") -> Float[Tensor, "B"]:
    """Loss per sample, the forward in the run's precision."""
    return run.process.loss(under_autocast(model, run.config.precision), *batch)


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
