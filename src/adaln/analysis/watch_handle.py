"""Gate, scale and shift in anyone's training loop: recorded as our own runs are, with warnings before a blow-up.

The network gets no hooks, no parameters and no buffers; what is looked at are its parameters and their gradients after
an update of the optimiser, at recorded steps alone. A recorded step is the number of updates behind the weights; its
gradient is the one that the last of them used, where the loop has not dropped it by then.

FOLDER/watch.json            what is watched
FOLDER/analysis/roles.jsonl  a line for each recorded step, as `adaln train` writes it
FOLDER/analysis/branches.jsonl  what `branches` saw, where the loop asked for it
FOLDER/metrics.jsonl         the loss, where the loop says it
FOLDER/alarms.jsonl          what was warned of
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adaln.analysis.alarms import Alarm, History, alarms, not_finite
from adaln.analysis.branches import BranchRecord
from adaln.analysis.recorder import to_row
from adaln.analysis.role_updates import (
    Entries,
    Watched,
    entries_of,
    gradient_squares,
    not_finite_in,
    numbers_of,
    records,
    wide,
)
from adaln.analysis.tracked import numbers_of_branches, send_records
from adaln.parallel import is_sharded, rank
from adaln.runs import append_record, drop_from
from adaln.trackers import Beside, warn

ABOUT, METRICS, ALARMS = "watch.json", "metrics.jsonl", "alarms.jsonl"
ROLES, BRANCHES = "analysis/roles.jsonl", "analysis/branches.jsonl"
MOST_LOSSES = 1_000
"""Losses that wait on the device for the next recorded step; so many are written at once before it."""


def is_watched(folder: Path) -> bool:
    """Whether `adaln.watch` wrote it."""
    return (folder / ABOUT).is_file()


def as_loss(loss: Any) -> Tensor | None:
    """One value (of several the mean), still on its device; None for what is no number."""
    try:
        values = torch.as_tensor(loss).detach()
    except (TypeError, ValueError, RuntimeError):
        return None
    if values.is_complex() or not values.numel():
        return None
    return values.reshape(1) if values.numel() == 1 else values.float().mean().reshape(1)


def as_given(value: Any) -> str:
    """In a few words."""
    text = f"a tensor of {tuple(value.shape)}, {value.dtype}" if isinstance(value, Tensor) else repr(value)
    return " ".join(text.split())[:60]


class TrainingWarning(UserWarning):
    """What `watch` warns of."""


class Watch:
    """A network that is watched; made by `adaln.watch`."""

    def __init__(
        self,
        sites: Sequence[Watched],
        folder: Path,
        steps: Callable[[int], bool],
        step: int,
        trackers: Sequence[Beside],
        page: Callable[[Path], Path],
        look_into: Callable[..., list[BranchRecord]],
    ) -> None:
        self.folder = folder
        self.updates = step
        """Behind the weights."""
        self._sites, self._is_recorded, self._trackers, self._page = sites, steps, list(trackers), page
        self._look_into = look_into
        self._entries: dict[int, Entries] = {}
        self._losses: list[tuple[int, Tensor]] = []
        self._optimizer: torch.optim.Optimizer | None = None
        self._handles: list[Any] = []
        self._warned: set[tuple[str, str]] = set()
        self._history = History()
        if rank() == 0:
            for file in (ROLES, BRANCHES, METRICS, ALARMS):
                drop_from(folder / file, step + 1 if step else 0)  # what was seen of the last update stays
        self._look(records_it=not step)  # of a loop that goes on the update before is gone, and recorded if at all

    def step(self, loss: Any = None) -> None:
        """Call it after each `optimizer.step()`, unless `watch` was given the optimiser; `loss` of that update."""
        if self._optimizer is not None:
            self._warn_once("counted", "step", "the optimiser that watch was given counts its steps; call log(loss)")
        else:
            self._count()
        if loss is not None:
            self.log(loss)

    def log(self, loss: Any) -> None:
        """The loss of the last update, of several values their mean.

        It waits on its device for the next recorded step, or until a thousand do. What is no number is a warning.
        """
        if (kept := as_loss(loss)) is None:
            self._warn_once("failed", "loss", f"log got {as_given(loss)}; expected the loss, a number: it is not kept")
            return
        self._losses.append((self.updates, kept))
        if len(self._losses) >= MOST_LOSSES:
            try:
                self._write_losses()
            except Exception as error:  # a full disk, say: training goes on
                self._warn_once("failed", "losses", f"losses up to step {self.updates:,} are not written: {error}")

    def branches(self, *arguments: Any, **named: Any) -> list[BranchRecord]:
        """What gates and scales do on the inputs of one batch: energy of every branch and max |1 + scale|, recorded.

        A few forward passes in evaluation mode, as whoever calls it asks for them; the network is as it was afterwards.
        Of a network whose blocks are sharded every process calls it. What fails is a warning, and gives nothing.
        """
        try:
            found = self._look_into(*arguments, **named)
            if not rank():
                self._write_losses()  # trackers get steps in their order
                append_record(
                    self.folder / BRANCHES, {"step": self.updates, "branches": [asdict(one) for one in found]}
                )
                for tracker in self._trackers:
                    tracker.on_log(self.updates, numbers_of_branches(found))
        except Exception as error:  # of whatever network: it is not the training's
            self._warn_once("failed", "branches", f"no branch is looked into at step {self.updates:,}: {error}")
            return []
        return found

    def close(self) -> None:
        """Write the losses that are left, let go of the optimiser, and let trackers send what is left and the page."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        try:
            self._write_losses()
            if shown := [tracker for tracker in self._trackers if tracker.has("on_page")]:
                page = self._page(self.folder)
                for tracker in shown:
                    tracker.send("on_page", page)
        except Exception as error:  # a full disk, say
            self._warn_once("failed", "watch", f"not all of the training's end is written: {error}")
        for tracker in self._trackers:
            tracker.close()
        self._trackers.clear()

    def __enter__(self) -> "Watch":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def attach(self, optimizer: torch.optim.Optimizer) -> None:
        """Count its steps, at the end of each of them."""
        self._optimizer = optimizer
        self._handles.append(optimizer.register_step_post_hook(lambda *_: self._count()))

    def _count(self) -> None:
        self.updates += 1
        if any(self._is_recorded(self.updates + ahead) for ahead in (0, 1, 2)):
            try:
                self._look()
            except Exception as error:  # a full disk, say: training goes on
                self._warn_once("failed", "watch", f"nothing is recorded of step {self.updates:,}: {error}")

    @torch.no_grad()
    def _look(self, records_it: bool = True) -> None:
        """Keep the entries of now; at a recorded step, what is to be known of them."""
        step = self.updates
        if rank() and not any(is_sharded(watched.values) for watched in self._sites):
            return  # the first process has all of it
        self._entries[step] = entries_of(self._sites)
        if self._is_recorded(step) and records_it:
            self._record(step, gradient_squares(self._sites))
        self._entries = {kept: entries for kept, entries in self._entries.items() if kept >= step - 1}

    def _record(self, step: int, squares: Sequence[Tensor]) -> None:
        there = torch.stack([one.cpu().double() for one in squares])
        seen = [self._entries[before] for before in (step, step - 1, step - 2) if before in self._entries]
        broken = [] if self._are_finite(there, seen[0]) else not_finite_in(self._sites)
        if rank():
            return
        now, numbers = [one.cpu() for one in seen[0]], numbers_of(self._sites, seen)
        found = records(step, self._sites, there.tolist(), now, numbers)
        append_record(self.folder / ROLES, {"step": step, "records": [to_row(record) for record in found]})
        self._write_losses()
        send_records(self._trackers, step, found)
        looked_at = self._history.seen(step, self._sites, there.tolist(), now, numbers)
        self._warn([not_finite(step, broken)] if broken else alarms(step, looked_at))

    @staticmethod
    def _are_finite(squares: Tensor, entries: Entries) -> bool:
        """Whether there is no sign of a weight that is not finite: it would have spread to every gradient by now."""
        shown = torch.stack([wide(one).sum().cpu() for one in entries])
        return bool(squares.isfinite().all() and shown.isfinite().all())

    def _warn(self, found: Sequence[Alarm]) -> None:
        for alarm in found:
            if self._warn_once(alarm.rule, alarm.role, f"step {alarm.step:,}: {alarm.text}"):
                append_record(self.folder / ALARMS, asdict(alarm))
                for tracker in self._trackers:
                    tracker.send("on_event", alarm.step, f"{alarm.rule}: {alarm.role}", alarm.text)

    def _warn_once(self, rule: str, what: str, text: str) -> bool:
        if is_first := (rule, what) not in self._warned:
            self._warned.add((rule, what))
            warn(text, TrainingWarning, stacklevel=2)
        return is_first

    def _write_losses(self) -> None:
        losses, self._losses = self._losses, []
        if not losses or rank():
            return
        values = torch.cat([loss.float().cpu() for _, loss in losses]).tolist()
        for (step, _), value in zip(losses, values, strict=True):
            if isfinite(value):
                append_record(self.folder / METRICS, {"step": step, "loss": value})
                for tracker in self._trackers:
                    tracker.on_log(step, {"loss": value})
            else:
                self._warn([not_finite(step, ["the loss"], "loss")])
