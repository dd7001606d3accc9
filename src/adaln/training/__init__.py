"""Training a run: the loop, its state, its learning rate, what it logs and saves."""

from adaln.training.ema_and_optimizer import TrainState
from adaln.training.learning_rate import lr_factor
from adaln.training.loop import Stopped, train
from adaln.training.loss import batch_loss, drop_labels, inputs
from adaln.training.resume import save
from adaln.training.trackers import TRACKERS, Tracker

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
