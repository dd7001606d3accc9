"""Training a run: the loop, its state, its learning rate, what it logs and saves."""

from adaln.trackers import Tracker as Tracker
from adaln.training.ema_and_optimizer import TrainState as TrainState
from adaln.training.learning_rate import lr_factor as lr_factor
from adaln.training.loop import Stopped as Stopped
from adaln.training.loop import train as train
from adaln.training.loss import batch_loss as batch_loss
from adaln.training.loss import drop_labels as drop_labels
from adaln.training.loss import inputs as inputs
from adaln.training.resume import save as save
from adaln.training.resume import update_after as update_after
from adaln.training.trackers import TRACKERS as TRACKERS
