"""What is logged of a training: lines of metrics.jsonl, and whoever follows them besides."""

from collections.abc import Callable, Sequence
from functools import partial

from adaln.codec import leaves
from adaln.config import Schedule, to_dict
from adaln.parallel import rank
from adaln.registry import Registry
from adaln.runs import Run, append_record
from adaln.trackers import KNOWN, Tracker
from adaln.training.ema_and_optimizer import TrainState
from adaln.types import OnLog

MakeTracker = Callable[[Run], Tracker]


def known(name: str, run: Run) -> Tracker:
    """One of `adaln.trackers.KNOWN`, for a run."""
    return KNOWN[name](run.path, dict(leaves(to_dict(run.config))))


TRACKERS: Registry[MakeTracker] = Registry("tracker", {name: partial(known, name) for name in KNOWN}, accepts=Callable)
"""Trackers by name, each made for a run: `adaln train PRESET --track NAME`."""


def log_if_due(run: Run, state: TrainState, on_log: Sequence[OnLog] = ()) -> None:
    """A line of metrics.jsonl, then the same to `on_log`: mean loss since the last line, the newest gradient norm, and
    the newest learning rate where it is not constant."""
    since = state.step % run.config.log_every or run.config.log_every
    if since != run.config.log_every and state.step != run.config.steps:
        return
    state.check_finite()
    metrics = {"loss": state.mean_loss_sum().item() / since, "grad_norm": state.grad_norm().item()}
    if run.config.optim.schedule != Schedule():
        metrics["lr"] = state.learning_rate(state.step - 1)
    if rank() == 0:
        append_record(run.path / "metrics.jsonl", {"step": state.step, **metrics})
        for log in on_log:
            log(state.step, dict(metrics))  # its own
    if since == run.config.log_every:
        state.loss_sum.zero_()
