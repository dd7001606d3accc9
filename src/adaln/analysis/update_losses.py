"""Losses of a training, one for each update, however many of them a loop logs, before its steps or after."""

from enum import Enum, auto
from time import monotonic

import torch
from torch import Tensor

MOST_WAITING, SECONDS = 50, 1.0
"""Losses that wait for the next recorded step, and for how long where none is on an accelerator: what a process that is
killed takes with it."""


class Order(Enum):
    """Which losses a loop logs between update k and k + 1."""

    AFTER = auto()
    """Those of update k."""
    BEFORE = auto()
    """Those of update k + 1: it logs every micro-batch, and steps then."""
    AROUND = auto()
    """First the last of update k, then those of k + 1 but for its last: it logs every micro-batch, and the step comes
    before the last of them is logged. So too where there is one a batch, and scaling has skipped a step."""


class UpdateLosses:
    """Those that are logged, until the update that they belong to is known and has all of its own.

    The order in which a loop steps and logs shows in how many it logs before its first update and how many between the
    first two. Never is there one of the update that a training goes on from, or of an update that never came.
    """

    def __init__(self, begun: int) -> None:
        self._begun, self._behind = begun, -1
        self._order: Order | None = None
        self.is_unsure = False
        """Whether one came before the first update and one between updates: one a batch, logged before its step, looks
        as one does that is logged after it where the first step is skipped; taken for the latter."""
        self._waiting: list[tuple[int, Tensor | None, Tensor]] = []
        self._logged: list[tuple[int, float]] = []
        self._of_update: dict[int, list[float]] = {}
        self._is_at_hand, self._taken_at = True, monotonic()

    def add(self, counted: int, skipped: Tensor | None, loss: Tensor) -> None:
        """One value, after `counted` updates less those that were skipped; on whatever device."""
        self._waiting.append((counted, skipped, loss))
        self._is_at_hand &= loss.device.type == "cpu" and (skipped is None or skipped.device.type == "cpu")

    @property
    def are_due(self) -> bool:
        """Whether to take them off recorded steps, too: on an accelerator only where there are many."""
        is_long = self._is_at_hand and monotonic() - self._taken_at >= SECONDS
        return len(self._waiting) >= MOST_WAITING or (is_long and bool(self._waiting))

    def take(self, updates: int, ends: bool = False) -> list[tuple[int, float]]:
        """(update, mean of its losses) of those that have all; at the end of the training of all `updates`."""
        waiting, self._waiting = self._waiting, []
        self._is_at_hand, self._taken_at = True, monotonic()
        if waiting:
            values = torch.cat([loss.cpu().double() for *_, loss in waiting]).tolist()
            behind = [counted - (0 if skipped is None else int(skipped)) for counted, skipped, _ in waiting]
            self._logged += zip(behind, values, strict=True)
        self._learn_order(updates, ends)
        if self._order is None:
            return []
        for number, value in self._logged:
            is_first, self._behind = number != self._behind, number
            is_next = number == self._begun or self._order is Order.BEFORE
            is_next = is_next or (self._order is Order.AROUND and not is_first)
            self._of_update.setdefault(number + is_next, []).append(value)
        self._logged = []
        has_all = ends or self._order is Order.BEFORE or (self._order is Order.AROUND and self._behind == updates)
        done = sorted(step for step in self._of_update if step <= updates - (not has_all))
        taken = [(step, self._of_update.pop(step)) for step in done]
        return [(step, sum(losses) / len(losses)) for step, losses in taken]

    def _learn_order(self, updates: int, ends: bool) -> None:
        """Once all between two updates are there."""
        later = [behind for behind, _ in self._logged if behind > self._begun]
        if self._order is None and later and (ends or later[0] < updates):
            first, each = len(self._logged) - len(later), later.count(later[0])
            if each > 1 and first % each == 0:
                self._order = Order.BEFORE if first else Order.AFTER
            else:
                self._order, self.is_unsure = Order.AROUND, first == each == 1
