"""Adam's correction of its averages by the age of rows that opened late, not by that of their tensor.

Adam divides its averages by 1 - beta^t, t the steps of the whole tensor. For the rows of one step the averages are made
so much larger that this division leaves what 1 - beta^age would, and are put right afterwards.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from adaln.parallel import own_part

NEGLIGIBLE = 1e-8
"""Of 1: below float32's resolution of 1 - beta^age."""


def check_is_adam(optimizer: torch.optim.Optimizer, group: Mapping[str, Any]) -> None:
    """`ValueError` for anything but Adam's and AdamW's plain step."""
    coupled = bool(group.get("weight_decay")) and not isinstance(optimizer, torch.optim.AdamW)
    plain = isinstance(optimizer, torch.optim.Adam | torch.optim.AdamW)
    if not plain or group["amsgrad"] or coupled or 0 in group["betas"]:
        raise ValueError(
            f"own_age corrects the averages of Adam and AdamW (betas above 0, no amsgrad, no coupled weight decay), not"
            f" of this {type(optimizer).__name__}; expected one of these, or own_age=False"
        )


def correct(
    optimizer: torch.optim.Optimizer, group: Mapping[str, Any], tensor: Tensor, rows: tuple[int, int], age: int
) -> Callable[[], None]:
    """Ready rows in their `age`-th step for the optimiser's next; what is returned is to be called after it."""
    check_is_adam(optimizer, group)
    state = optimizer.state.get(tensor)
    if tensor.grad is None or not state or max(group["betas"]) ** age < NEGLIGIBLE:
        return lambda: None
    gradient, steps = own_part(tensor.grad, *rows), float(state["step"]) + 1
    kept, sign = [(gradient, gradient.clone())], -1 if group["maximize"] else 1
    for name, beta, value in zip(
        ("exp_avg", "exp_avg_sq"), group["betas"], (sign * gradient, gradient.square()), strict=True
    ):
        average = own_part(state[name], *rows)
        kept.append((average, average.lerp(value, 1 - beta)))
        average.copy_(kept[-1][1] * ((1 - beta**steps) / (1 - beta**age) / beta))
    gradient.zero_()  # it is in the averages

    def put_right() -> None:
        for changed, right in kept:
            changed.copy_(right)

    return put_right
