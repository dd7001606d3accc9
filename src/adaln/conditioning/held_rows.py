"""Rows that stay where they started until a step, in a training loop of ours or of anyone.

A part is the rows of one site in one tensor, or a whole tensor that hosts no site. Two facts to keep in mind. Adam
counts its steps per tensor, so rows that open late take first steps of another size than rows of a fresh tensor would.
Weight decay moves rows whose gradient is zero, so holding refuses weight decay.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any

import torch
from torch import Tensor, nn

from adaln.conditioning.layout import find_sites
from adaln.conditioning.own_age import check_is_adam, correct
from adaln.conditioning.scheme_row import Scheme
from adaln.conditioning.sites import Site
from adaln.parallel import own_part
from adaln.types import Hook, as_rows


@dataclass(frozen=True, slots=True, order=True)
class OrderPart:
    """Rows `start` to `stop` of one tensor."""

    tensor: str
    start: int
    stop: int

    def of(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """The rows themselves, as a view, as far as this process holds them; a scalar tensor is its own only row."""
        return own_part(tensors[self.tensor], self.start, self.stop)


Order = dict[OrderPart, int | None]
"""First iteration at which each part moves; None: not within what was measured, or never."""
Loss = Callable[[nn.Module, int], Tensor]
"""(model, iteration) -> scalar loss of that iteration's batch."""


def held_by(sites: Iterable[Site], scheme: Scheme) -> Order:
    """The parts that the scheme's own rows keep closed beyond the first step."""
    return {
        OrderPart(name, site.rows.start, site.rows.stop): scheme.at(site).opens
        for site in sites
        if scheme.at(site).opens != 0
        for name in site.tensors()
    }


def num_held(tensors: Mapping[str, Tensor], scheme: Scheme) -> int:
    """Number of parameters that the scheme holds for ever: what it takes from a parameter count (adaLN's gates)."""
    held = (part for part, opens in held_by(find_sites(tensors), scheme).items() if opens is None)
    return sum(as_rows(tensors[part.tensor])[part.start : part.stop].numel() for part in held)


def holding(order: Order) -> Hook:
    """A hook that zeroes the gradient of every part until the step at which it opens.

    With Adam or SGD and no weight decay, held parts stay bit-identical to their start.
    """
    closed_until = {part: inf if opens is None else opens for part, opens in order.items()}
    last = max(closed_until.values(), default=0)

    def mask(step: int, model: nn.Module) -> None:
        if step >= last:
            return
        gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        for part, opens in closed_until.items():
            if step < opens and part.tensor in gradients:
                part.of(gradients).zero_()

    return mask


def refuse_weight_decay(order: Order, weight_decay: float) -> None:
    """`ValueError` where weight decay would move what the order holds."""
    if weight_decay and any(opens != 0 for opens in order.values()):
        raise ValueError(
            f"weight decay {weight_decay:g} moves rows whose gradient is zero, so the scheme's held rows would not stay"
            " where they are; expected weight decay 0 with a scheme that holds rows (adaln, adaln-mix)"
        )


STEPS = "steps_held"
"""Where an optimiser's groups keep the number of steps that were held: they are saved with it and loaded again."""


@dataclass(slots=True)
class Hold:
    """What an optimiser is told before and after each step, and around its closure, so that an order is kept."""

    order: Order
    model: nn.Module
    own_age: bool = False
    """Whether Adam is to correct the averages of rows that open late by their own age."""
    step: int = 0
    afterwards: list[Callable[[], None]] = field(default_factory=list)
    kept: dict[OrderPart, Tensor] | None = None
    """The held rows before the first step, which shows whether the optimiser leaves rows without a gradient alone."""

    def register(self, optimizer: torch.optim.Optimizer) -> None:
        """`ValueError` for an optimiser that does not move what is held, or would by weight decay."""
        if not hasattr(optimizer, "_optimizer_step_pre_hooks"):
            raise ValueError(f"{type(optimizer).__name__} is no optimiser of torch; expected the one that it wraps")
        hooks = (getattr(hook, "__self__", None) for hook in optimizer._optimizer_step_pre_hooks.values())
        if any(isinstance(hook, Hold) and hook.model is self.model for hook in hooks):
            raise ValueError("the optimiser holds rows of this network already; expected one hold for each optimiser")
        held = {part.tensor for part in self.order}
        if gone := held - {name for name, _ in self.model.named_parameters()}:
            raise ValueError(f"{min(gone)!r} is no parameter of the network any more; expected its parts unwrapped")
        if not self._groups(optimizer):
            raise ValueError(
                f"the optimiser moves none of the tensors that hold rows, such as {min(held)!r}; expected one of this"
                " network's parameters, made after whatever replaces them (FSDP2)"
            )
        self._mask(optimizer)
        for group in self._groups(optimizer) if self.own_age else ():
            check_is_adam(optimizer, group)
        optimizer.register_step_pre_hook(self._before)
        optimizer.register_step_post_hook(self._after)

    def _groups(self, optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
        """The parameter groups that hold rows."""
        tensors = dict(self.model.named_parameters())
        held = {id(tensors[part.tensor]) for part in self.order}
        return [group for group in optimizer.param_groups if held & set(map(id, group["params"]))]

    def _mask(self, optimizer: torch.optim.Optimizer) -> None:
        self.step = optimizer.param_groups[0].get(STEPS, 0)
        if self.step < max((inf if opens is None else opens for opens in self.order.values()), default=0):
            for group in self._groups(optimizer):
                refuse_weight_decay(self.order, group.get("weight_decay", 0.0))
            holding(self.order)(self.step, self.model)

    def _before(
        self, optimizer: torch.optim.Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        closure = kwargs.get("closure", args[1] if len(args) > 1 else None)  # the optimiser itself is the first
        if not callable(closure):
            self._ready(optimizer)
            return None

        def held() -> Any:
            loss = closure()
            self._ready(optimizer)
            return loss

        return args[:1], {**kwargs, "closure": held}

    def _ready(self, optimizer: torch.optim.Optimizer) -> None:
        self._mask(optimizer)
        tensors = dict(self.model.named_parameters())
        if self.kept is None:
            held = [part for part, opens in self.order.items() if opens is None or self.step < opens]
            self.kept = {part: part.of(tensors).detach().clone() for part in held}
        groups = {id(one): group for group in optimizer.param_groups for one in group["params"]}
        for part, opens in self.order.items() if self.own_age else ():
            tensor = tensors[part.tensor]
            if opens and self.step >= opens and id(tensor) in groups:
                rows, age = (part.start, part.stop), self.step - opens + 1
                self.afterwards.append(correct(optimizer, groups[id(tensor)], tensor, rows, age))

    def _after(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        while self.afterwards:
            self.afterwards.pop()()
        tensors, kept, self.kept = dict(self.model.named_parameters()), self.kept or {}, {}
        if moved := [part.tensor for part, rows in kept.items() if not torch.equal(part.of(tensors), rows)]:
            raise ValueError(
                f"{type(optimizer).__name__} moves rows whose gradient is zero, as of {moved[0]!r}: the scheme's held"
                " rows do not stay where they are; expected another optimiser, e.g. AdamW with weight decay 0"
            )
        for group in optimizer.param_groups:
            group[STEPS] = self.step + 1
