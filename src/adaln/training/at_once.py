"""The update of a small network in one pass over its tensors, in compiled loops (`kernels/update.c`).

What torch's AdamW and average do, in the order of their roundings: the same bits, except in the last few values of a
tensor whose size is no multiple of a vector's. Of a small network torch spends more time on its calls and its passes
over memory.
"""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from adaln.config import OptimConfig
from adaln.kernels import call, fit, have_kernels, word

SMALL = 1 << 20
"""Weights up to which the loops, which one thread does, are no slower than torch's with several."""
EPS = 1e-8
"""AdamW's, as torch has it."""


def are_small(tensors: Sequence[Tensor]) -> bool:
    """Whether the loops are for these tensors of an update."""
    return fit(tensors) and sum(map(Tensor.numel, tensors)) <= 3 * SMALL and have_kernels()


def norms_of(tensors: Sequence[Tensor]) -> Float[Tensor, "T"]:
    """The Euclidean norm of each."""
    norms = torch.empty(len(tensors))
    call("norms", tensors, [one.numel() for one in tensors], len(tensors), norms)
    return norms


class UpdateAtOnce:
    """Steps of AdamW, whose `states` torch made in the first, and of the average, all of which stay where they are."""

    def __init__(self, averages: Sequence[Tensor], states: Sequence[Mapping[str, Tensor]]) -> None:
        first, second, steps = ([state[key] for state in states] for key in ("exp_avg", "exp_avg_sq", "step"))
        self.tensors = first, second, averages, steps
        """Kept, since their addresses are."""
        self.words, self.sizes = [*map(word, self.tensors)], word([one.numel() for one in averages])

    def __call__(
        self, weights: Sequence[Tensor], gradients: Sequence[Tensor], optim: OptimConfig, lr: float, clip: float
    ) -> None:
        """One step, by gradients times `clip`."""
        settings = lr, *optim.betas, EPS, optim.weight_decay, 1 - optim.ema_decay, clip
        given = torch.tensor(settings, dtype=torch.float64)
        call("update", weights, gradients, *self.words, self.sizes, len(weights), given)
