"""Training a run: the loop, its state, its learning rate, what it logs and saves."""

from adaln.training.loop import Stopped, accumulate, train
from adaln.training.loss import batch_loss, drop_labels, inputs
from adaln.training.order import run_order
from adaln.training.schedules import lr_factor
from adaln.training.session import resume_or_start, save
from adaln.training.state import TrainState
from adaln.training.trackers import TRACKERS, Tracker

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
