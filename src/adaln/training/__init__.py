"""Training a run: the loop, its state, its learning rate, what it logs and saves."""

from adaln.training.loop import Stopped, train
from adaln.training.loss import batch_loss, drop_labels, inputs
from adaln.training.session import TRACKERS, Tracker, save
from adaln.training.state import TrainState, lr_factor

__all__ = [
    "TRACKERS",
    "Stopped",
    "Tracker",
    "TrainState",
    "batch_loss",
    "drop_labels",
    "inputs",
    "lr_factor",
    "save",
    "train",
]
