"""`adaln.watch` as a callback of Hugging Face's `Trainer`.

Source: transformers 5.24, `TrainerCallback`, whose `on_optimizer_step` comes after an update and before its gradients
are dropped, also where DeepSpeed or a `GradScaler` steps.
"""

from pathlib import Path
from typing import Any, Unpack

from adaln.analysis.watch_handle import Watch
from adaln.trackers import import_extra
from adaln.watching.door import watch
from adaln.watching.settings import Settings, part_of


class TrainerWatch(import_extra("transformers").TrainerCallback):  # type: ignore[misc]
    """Watch the network that a `Trainer` trains: `Trainer(..., callbacks=[TrainerWatch("watched")])`.

    `network` names the diffusion transformer inside the model, where that has others as well. A step is the trainer's
    `global_step`, so that training which goes on from a checkpoint goes on in the same folder; what an exception has
    ended begins anew there, where the same trainer does (`auto_find_batch_size`). `ValueError` when training begins, as
    of `adaln.watch`.
    """

    def __init__(self, to: str | Path, *, network: str = "", **settings: Unpack[Settings]) -> None:
        self.to, self.network, self.settings = to, network, settings
        self.watched: Watch | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, *, model: Any, **_: Any) -> None:
        step = state.global_step or None
        if self.watched is not None and self.watched.is_open:  # an exception ended it, which no callback hears of
            self.watched.close(records_end=False)
            step = state.global_step
        self.watched = watch(part_of(model, self.network), to=self.to, step=step, **self.settings)

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.watched is not None:
            self.watched.step()

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if self.watched is not None and logs and "loss" in logs:
            self.watched.log(logs["loss"])

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.watched is not None:
            self.watched.close()
