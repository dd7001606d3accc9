"""When an update is done: by hooks of the optimisers that make it, or by a loop that says so."""

# mypy: disallow-untyped-calls=False
from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from typing import Any
from weakref import ref

import torch
from torch import Tensor

from adaln.analysis.role_updates import Watched
from adaln.analysis.watched_weights import version_of, versions

WHY_NOT_COMPILED = (
    "adaln.watch counts a step of the optimizer here; where that compiles whole, as under fullgraph=True, give watch no"
    " optimizer and call its step() after each"
)


class OptimizerSteps:
    """Hooks of the optimisers that hold the modulation; an update is a step of each of them.

    Where one steps again before all have, or one steps with other gradients than there were when the update began, that
    ended without the others (`after(True)`: its gradients are gone), which a `GradScaler` skipped, say.
    `before` gets the optimiser that steps, whether an update begins with it, and whether its gradients are those of the
    step already, which a closure makes within it; `loaded` one whose state was loaded.
    To a fused optimiser `GradScaler` hands scale and verdict as tensors, and the step that it skips is a step of the
    hooks: `skipped` counts those on the device. `torch.compile` of a step leaves the hooks as they are.
    """

    def __init__(
        self,
        optimizers: Sequence[torch.optim.Optimizer],
        before: Callable[[torch.optim.Optimizer, bool, bool], None],
        after: Callable[[bool], None],
        loaded: Callable[[torch.optim.Optimizer], None],
    ) -> None:
        self.optimizers, self._before, self._after = optimizers, before, after
        self.skipped: Tensor | None = None
        """Since somebody took them off; None where no step could be skipped."""
        self._stepped: dict[int, Tensor | None] = {}
        self._gradients: dict[int, ref[Tensor]] = {}
        begin, end = (torch.compiler.disable(one, reason=WHY_NOT_COMPILED) for one in (self._begin, self._end))
        self._handles: list[Any] = []
        for one in optimizers:
            self._handles += [one.register_step_pre_hook(begin), one.register_step_post_hook(end)]
            self._handles.append(one.register_load_state_dict_post_hook(loaded))

    @property
    def is_attached(self) -> bool:
        """Until it is removed."""
        return bool(self._handles)

    def remove(self) -> None:
        """Let go of the optimisers."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _begin(self, optimizer: torch.optim.Optimizer, args: Sequence[Any], named: Mapping[str, Any]) -> None:
        gradient, last = gradient_of(optimizer), self._gradients.get(id(optimizer))
        is_other = gradient is not None and last is not None and last() is not gradient
        if id(optimizer) in self._stepped or (self._stepped and is_other):
            self._finish(late=True)
        if not self._stepped and len(self.optimizers) > 1:
            gradients = {id(one): gradient_of(one) for one in self.optimizers}
            self._gradients = {key: ref(one) for key, one in gradients.items() if one is not None}
        closures = [*args[1:2], named.get("closure")]  # torch hands the optimiser as the first
        self._before(optimizer, not self._stepped, all(one is None for one in closures))

    def _end(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        found = getattr(optimizer, "found_inf", None)
        self._stepped[id(optimizer)] = found.detach().reshape(()) > 0 if isinstance(found, Tensor) else None
        if len(self._stepped) == len(self.optimizers):
            self._finish(late=False)

    def _finish(self, late: bool) -> None:
        verdicts, self._stepped = list(self._stepped.values()), {}
        if all(verdict is not None for verdict in verdicts):
            first, *others = [verdict for verdict in verdicts if verdict is not None]
            for other in others:
                first = first & other.to(first.device)
            self.skipped = first.long() if self.skipped is None else self.skipped + first
        self._after(late)


class SaidSteps:
    """Updates as a loop says them: whether it says one twice."""

    def __init__(self, sites: Sequence[Watched]) -> None:
        self._versions, self._changed = (-1, -1), False
        self._gradient: ref[Tensor] | None = None
        self.is_again(sites)
        self._changed = False

    def is_again(self, sites: Sequence[Watched]) -> bool:
        """Whether weights and gradients are those of the call before, though they were others before that."""
        gradient = next((site.values.grad for site in sites if site.values.grad is not None), None)
        last, before = self._versions, self._gradient() if self._gradient else None
        self._versions = versions(sites), version_of(gradient)
        self._gradient = None if gradient is None else ref(gradient)
        same = gradient is not None and gradient is before and self._versions == last
        again = same and self._changed
        self._changed = self._changed or not same
        return again


def gradient_of(optimizer: torch.optim.Optimizer) -> Tensor | None:
    """The first of its parameters that has one."""
    gradients = (parameter.grad for group in optimizer.param_groups for parameter in group["params"])
    return next((one for one in gradients if one is not None), None)


def steps_behind(optimizer: torch.optim.Optimizer | None) -> int:
    """Steps that the state of an optimiser tells of, where it tells of them by one number."""
    states = optimizer.state.values() if optimizer is not None else ()
    steps: list[Any] = [state.get("step") for state in states if isinstance(state, Mapping)]
    return max((int(one) for one in steps if is_one_number(one)), default=0)


def is_one_number(value: object) -> bool:
    """Finite, and no truth."""
    if isinstance(value, Tensor):
        return value.numel() == 1 and not value.is_complex() and bool(value.isfinite())
    return isinstance(value, int | float) and isfinite(value) and not isinstance(value, bool)
