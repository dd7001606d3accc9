"""Gate, scale and shift in anyone's training loop: recorded as our own runs are, with warnings before a blow-up.

The network gets no hooks, no parameters and no buffers; what is looked at are its parameters and their gradients after
an update of the optimiser, at recorded steps alone. A recorded step is the number of updates behind the weights; its
gradient is the one that the last of them used: looked at before the optimiser's step, or, where the loop counts or a
closure makes it, after that, if it has not been dropped by then.

FOLDER/watch.json            what is watched
FOLDER/analysis/roles.jsonl  a line for each recorded step, as `adaln train` writes it
FOLDER/analysis/branches.jsonl  what `branches` saw, where the loop asked for it
FOLDER/metrics.jsonl         the loss, where the loop says it
FOLDER/alarms.jsonl          what was warned of
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch._compile import _disable_dynamo  # torch.compiler.disable, which imports the compiler only when called

from adaln.analysis.alarms import Alarm, History, alarms, loss_not_finite, not_finite, risen
from adaln.analysis.branches import BranchRecord
from adaln.analysis.losses import LossLevels, as_loss
from adaln.analysis.optimizer_steps import OptimizerSteps, SaidSteps, steps_behind
from adaln.analysis.recorder import to_row
from adaln.analysis.role_updates import Entries, are_finite, broken_before, not_finite_in, numbers_of, on_cpu, records
from adaln.analysis.tracked import numbers_of_branches, send_records
from adaln.analysis.update_losses import UpdateLosses
from adaln.analysis.watched_weights import WatchedWeights
from adaln.parallel import rank
from adaln.runs import append_record, drop_from, read_records
from adaln.trackers import Beside, warn

ABOUT, METRICS, ALARMS = "watch.json", "metrics.jsonl", "alarms.jsonl"
ROLES, BRANCHES = "analysis/roles.jsonl", "analysis/branches.jsonl"


def is_watched(folder: Path) -> bool:
    """Whether `adaln.watch` wrote it."""
    return (folder / ABOUT).is_file()


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
        weights: WatchedWeights,
        folder: Path,
        steps: Callable[[int], bool],
        step: int,
        trackers: Sequence[Beside],
        page: Callable[[Path], Path],
        look_into: Callable[..., list[BranchRecord]],
    ) -> None:
        self.folder, self.is_open = folder, True
        self._begun = self._counted = self._recorded = step
        """Updates behind the weights at first, now, and at the last record."""
        self._weights, self._is_recorded, self._trackers, self._page = weights, steps, list(trackers), page
        self._look_into = look_into
        self._losses = UpdateLosses(step)
        self._unstepped = 0
        """Losses since the last update."""
        self._steps: OptimizerSteps | None = None
        self._said = SaidSteps(weights.sites)
        self._warned: set[tuple[str, str]] = set()
        self._told: set[tuple[str, str]] = set()
        """Alarms that are written already, and were sent to trackers."""
        self._history, self._levels = History(), LossLevels()
        if rank() == 0:
            for file in (ROLES, BRANCHES, METRICS, ALARMS):
                drop_from(folder / file, step + 1 if step else 0)  # what was seen of the last update stays
            for record in read_records(folder / METRICS, ["loss"]):
                self._levels.are_risen(float(record["loss"]))
            self._told = {(str(one["rule"]), str(one["role"])) for one in read_records(folder / ALARMS)}
        self._look(records_it=not step)  # of a loop that goes on the update before is gone, and recorded if at all

    @_disable_dynamo
    def step(self, loss: Any = None) -> None:
        """Call it after each `optimizer.step()`, unless `watch` was given the optimiser; `loss` of that update."""
        if not self.is_open:
            self._warn_once("closed", "step", f"the watch of {str(self.folder)!r} is closed: nothing is recorded")
        elif self._steps is not None:
            self._warn_once("counted", "step", "the optimiser that watch was given counts its steps; call log(loss)")
        elif self._said.is_again(self._weights.sites):
            text = f"step() was called again after step {self.updates:,}, with no update between: it counts once"
            self._warn_once("counted", "step", text)
        else:
            self._count()
        if loss is not None:
            self.log(loss)

    @_disable_dynamo
    def log(self, loss: Any) -> None:
        """The loss of an update, of several values their mean, after its step; or of each of its micro-batches.

        It waits until fifty do, for the next recorded step, or for a second where none is on an accelerator; on the CPU
        one that is not finite is said at once. What is no number is a warning.
        """
        if not self.is_open:
            self._warn_once("closed", "log", f"the watch of {str(self.folder)!r} is closed: no loss is kept")
            return
        if (kept := as_loss(loss)) is None:
            self._warn_once("failed", "loss", f"log got {as_given(loss)}; expected the loss, a number: it is not kept")
            return
        if not rank():
            self._losses.add(self._counted, self._steps.skipped if self._steps else None, kept)
        self._unstepped += 1
        try:
            self._look_for_others()
            is_here = kept.device.type == "cpu"
            if self._losses.are_due or (is_here and not kept.isfinite()):
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

    def close(self, records_end: bool = True) -> None:
        """Record the end, write the losses that are left, let go of the optimiser, let trackers send what is left and
        the page.

        `records_end`: the state after the last update, where no record is of it; not of what an exception ended, nor of
        a network whose blocks are sharded, since whoever closes need not have the other processes beside it.
        """
        records_end = records_end and self.is_open
        try:
            if self._steps is not None and self._steps.is_attached:
                self._look_for_others(ends=True)
                self._steps.remove()
            self._write_losses(ends=True)
            if records_end:
                self._record_end()
            if shown := [tracker for tracker in self._trackers if tracker.has("on_page")]:
                page = self._page(self.folder)
                for tracker in shown:
                    tracker.send("on_page", page)
        except Exception as error:  # a full disk, say
            self._warn_once("failed", "watch", f"not all of the training's end is written: {error}")
        for tracker in self._trackers:
            tracker.close()
        self._trackers.clear()
        self.is_open = False

    def __repr__(self) -> str:
        return f"<Watch of {str(self.folder)!r}, {self._counted:,} updates{', closed' * (not self.is_open)}>"

    def __enter__(self) -> "Watch":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close(records_end=kind is None)

    def close_at_exit(self) -> None:
        """Where the process ends, by an exception or without one."""
        self.close(records_end=not hasattr(sys, "last_type"))

    @property
    def updates(self) -> int:
        """Behind the weights; waits for the device where a fused optimiser skips steps there."""
        if self._steps is not None and self._steps.skipped is not None:
            self._counted -= int(self._steps.skipped)
            self._steps.skipped = None
        return self._counted

    @updates.setter
    def updates(self, number: int) -> None:
        self._counted += number - self.updates

    @property
    def steps_taken(self) -> int:
        """As `updates`, with steps that are skipped on the device; waits for nothing."""
        return self._counted

    def attach(self, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        """Count their updates, at the end of each of them."""
        self._steps = OptimizerSteps(optimizers, self._before_step, self._count, self._on_loaded)
        self._weights.sample()

    def _is_near(self, step: int) -> bool:
        """Whether the entries of a step are wanted: at the two before a recorded one, too."""
        return any(self._is_recorded(step + ahead) for ahead in (0, 1, 2))

    def _count(self, is_late: bool = False) -> None:
        self._counted, self._unstepped = self._counted + 1, 0
        try:
            if self._is_near(self._counted) and self._is_near(self.updates) and not self._weights.is_kept(self.updates):
                self._look(is_late=is_late)
            self._weights.remember()
        except Exception as error:  # a full disk, say: training goes on
            self._warn_once("failed", "watch", f"nothing is recorded of step {self.updates:,}: {error}")
        self._weights.drop_gradients()

    @torch.no_grad()
    def _look(self, records_it: bool = True, is_late: bool = False) -> None:
        """Keep the entries of now; at a recorded step, what is to be known of them.

        `is_late`: the gradients that are there are those of the next update already.
        """
        step = self.updates
        if self._weights.is_idle:
            return
        self._warn_of_change("parameters", self._weights.follow(self._steps.optimizers if self._steps else ()))
        seen = self._weights.keep(step)
        if self._is_recorded(step) and records_it:
            self._record(step, self._weights.gradient_squares(is_late), seen)

    @torch.no_grad()
    def _record_end(self) -> None:
        step = self.updates
        if step in (self._begun, self._recorded) or not self._weights.are_as_remembered():
            return
        seen = self._weights.keep(step)
        self._record(step, self._weights.gradient_squares(is_late=True), seen)

    @torch.no_grad()
    def _before_step(self, optimizer: torch.optim.Optimizer, begins: bool, has_gradients: bool) -> None:
        """What is gone after a step: which weights it began with, and its gradients."""
        try:
            if self._weights.is_idle:
                return
            if begins and self._is_near(self._counted + 1):
                self._warn_of_change("weights", self._weights.begin_again(self._counted))
            if self._is_recorded(self._counted + 1):
                self._weights.see_rates(optimizer)
                if has_gradients:
                    self._weights.see_gradients(optimizer)
        except Exception as error:
            self._warn_once("failed", "before", f"what update {self._counted + 1:,} began with is not seen: {error}")

    def _on_loaded(self, optimizer: torch.optim.Optimizer) -> None:
        if (behind := steps_behind(optimizer)) and behind != self.updates:
            text = (
                f"the optimiser's state was loaded after watch began and tells of {behind:,} updates; steps go on from"
            )
            self._warn_of_change("state", f"{text} {self.updates:,}: call watch after it, or with step=")

    def _look_for_others(self, ends: bool = False) -> None:
        """Whether weights move though no step of the optimiser is counted, seen at a few of many losses."""
        if self._steps is None or not self._steps.is_attached or self._weights.is_idle:
            return
        many, is_first = self._unstepped, self._counted == self._begun
        if many == 16 and not is_first:
            self._weights.sample()
        if (is_first and (many == 4 or ends)) or (many >= 32 and many.bit_count() == 1):
            self._warn_of_change("optimizer", self._weights.moved_by_others())

    def _warn_of_change(self, what: str, text: str) -> None:
        if text:
            self._warn_once("changed", what, f"step {self._counted:,}: {text}")

    def _record(self, step: int, squares: Sequence[Tensor], seen: Sequence[Entries]) -> None:
        sites, self._recorded = self._weights.sites, step
        there = on_cpu(squares)
        broken = [] if are_finite(there, seen[0]) else not_finite_in(sites)
        if rank():
            return
        now, numbers = seen[0].cpu(), numbers_of(sites, seen)
        found = records(step, sites, there.tolist(), now, numbers)
        append_record(self.folder / ROLES, {"step": step, "records": [to_row(record) for record in found]})
        self._write_losses()
        send_records(self._trackers, step, found)
        looked_at = self._history.seen(step, sites, there.tolist(), now, numbers, self._weights.rates())
        self._warn([not_finite(step, broken, broken_before(sites, seen[1:]))] if broken else alarms(step, looked_at))

    def _warn(self, found: Sequence[Alarm]) -> None:
        for alarm in found:
            is_first = self._warn_once(alarm.rule, alarm.role, f"step {alarm.step:,}: {alarm.text}")
            if is_first and (alarm.rule, alarm.role) not in self._told:
                append_record(self.folder / ALARMS, asdict(alarm))
                for tracker in self._trackers:
                    tracker.send("on_event", alarm.step, f"{alarm.rule}: {alarm.role}", alarm.text)

    def _warn_once(self, rule: str, what: str, text: str) -> bool:
        if is_first := (rule, what) not in self._warned:
            self._warned.add((rule, what))
            warn(text, TrainingWarning)
        return is_first

    def _write_losses(self, ends: bool = False) -> None:
        taken = self._losses.take(self.updates, ends)
        if self._losses.is_unsure:
            text = (
                "a loss was logged before the first update, and one between updates: each counts with the update before"
                " it, as where GradScaler skips the first step; a loop that logs before it steps should log after"
            )
            self._warn_once("changed", "order of losses", text)
        for step, value in taken:
            if isfinite(value):
                append_record(self.folder / METRICS, {"step": step, "loss": value})
                self._warn([risen(step, value)] if self._levels.are_risen(value) else [])
                for tracker in self._trackers:
                    tracker.on_log(step, {"loss": value})
            elif ("not finite", "loss") not in self._warned:
                self._warn([loss_not_finite(step, self._weights.not_finite())])
