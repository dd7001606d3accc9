"""Training a run: the loop, its state, its learning rate, what it logs and saves."""

from adaln.training.loop import Stopped, accumulate, train
from adaln.training.loss import batch_loss, drop_labels, inputs
from adaln.training.session import TRACKERS, Tracker, resume_or_start, run_order, save
from adaln.training.state import TrainState, lr_factor

__all__ = [
    "TRACKERS",
    "Stopped",
    "Tracker",
    "TrainState",
    "accumulate",
    "batch_loss",
    "drop_labels",
    "inputs",
    "lr_factor",
    "resume_or_start",
    "run_order",
    "save",
    "train",
]
