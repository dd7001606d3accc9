"""`adaln.watch` as a callback of Lightning's `Trainer`.

Source: lightning 2.6, whose `outputs["loss"]` is divided by the number of batches of an update.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Unpack

import torch
from torch import Tensor

from adaln.analysis.watch_handle import Watch
from adaln.trackers import import_extra
from adaln.watching.door import watch
from adaln.watching.settings import Settings, part_of


class LightningWatch(import_extra("lightning.pytorch").Callback):  # type: ignore[misc]
    """Watch the network of a `LightningModule`: `Trainer(callbacks=[LightningWatch("watched")])`.

    `network` names the diffusion transformer inside the module, where that has others as well, an average of it for
    one. Of several optimisers the one that holds the modulation counts. The number of updates is kept in Lightning's
    checkpoints, so that a `fit` that goes on goes on in the same folder. `ValueError` when training begins, as of
    `adaln.watch`.
    """

    def __init__(self, to: str | Path, *, network: str = "", **settings: Unpack[Settings]) -> None:
        self.to, self.network, self.settings = to, network, settings
        self.watched: Watch | None = None
        self._updates: int | None = None
        self._steps = 0
        self._losses: list[Tensor] = []

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        if not trainer.global_step:  # another training than the last, whose number of updates a checkpoint has if any
            self._updates = None

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        updates = self._updates
        if updates is None and len(trainer.optimizers) == 1:  # of several the steps of all; their states know better
            updates = trainer.global_step
        network = part_of(pl_module, self.network)
        self.watched = watch(network, trainer.optimizers, to=self.to, step=updates or None, **self.settings)
        self._updates, self._steps = self.watched.updates, self.watched.steps_taken

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if self.watched is None:
            return
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        if isinstance(loss, Tensor):
            self._losses.append(loss.detach() * trainer.accumulate_grad_batches)
        if self.watched.steps_taken != self._steps:
            self._steps = self.watched.steps_taken
            if self._losses:
                self.watched.log(torch.stack(self._losses).mean())
            self._losses.clear()

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self._close(records_end=True)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        self._close(records_end=False)

    def _close(self, records_end: bool) -> None:
        if self.watched is not None:
            self._updates = self.watched.updates
            self.watched.close(records_end)

    def state_dict(self) -> dict[str, Any]:
        return {} if self.watched is None else {"updates": self.watched.updates}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._updates = state_dict.get("updates")
