"""What follows a training besides its own files: TensorBoard, W&B and trackio, none of which can stop or slow it.

Source: torch.utils.tensorboard; wandb 0.31 and trackio 0.43, whose `init` and `log` are the same calls.
"""

import queue
import threading
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

MOST_WAITING = 10_000
"""Lines that wait for a tracker that is slow; later ones are dropped, which is said."""
PATIENCE = 30.0
"""Seconds that the end of a training waits for what is still to be sent."""


@runtime_checkable
class Tracker(Protocol):
    """What follows one training; lives in the first process."""

    def on_log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Called with numbers by name, in the order of steps."""
        ...


class TensorBoard:
    """Event files in FOLDER/tensorboard."""

    def __init__(self, name: str, folder: Path, config: Mapping[str, Any]) -> None:
        import_extra("tensorboard")
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(folder / "tensorboard"))
        rows = "\n".join(f"    {key}: {value}" for key, value in config.items())
        self.writer.add_text("config", f"{name}\n\n{rows}")

    def on_log(self, step: int, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            self.writer.add_scalar(name, value, step)

    def close(self) -> None:
        self.writer.close()


class Board:
    """A run of W&B or of trackio, which have the same calls."""

    def __init__(self, package: str, name: str, config: Mapping[str, Any], **settings: Any) -> None:
        self.run = import_extra(package).init(project="adaln", name=name, config=dict(config), **settings)

    def on_log(self, step: int, metrics: Mapping[str, float]) -> None:
        self.run.log(dict(metrics), step=step)

    def close(self) -> None:
        self.run.finish()


def import_extra(package: str) -> Any:
    """A package of an extra of its name; `ValueError` with the command that installs it."""
    try:
        return import_module(package)
    except ImportError as error:
        name = package.partition(".")[0]
        raise ValueError(f"{name} is not installed; pip install 'adaln[{name}]'") from error


def wandb(name: str, folder: Path, config: Mapping[str, Any]) -> Board:
    """A run of the project adaln, gone on with by the name of its folder; offline by WANDB_MODE=offline."""
    return Board("wandb", name, config, id=folder.name, resume="allow", dir=str(folder))


def trackio(name: str, folder: Path, config: Mapping[str, Any]) -> Board:
    """A run of the local project adaln, gone on with by its name."""
    return Board("trackio", name, config, resume="allow")


KNOWN: Mapping[str, Callable[[str, Path, Mapping[str, Any]], Tracker]] = {
    "tensorboard": TensorBoard,
    "wandb": wandb,
    "trackio": trackio,
}
"""By name: of (name, folder, config as plain data) what follows."""


class Beside:
    """A tracker in a thread of its own: what it raises is said once, and no more of it is asked for."""

    def __init__(self, name: str, tracker: Tracker) -> None:
        self.name, self.tracker = name, tracker
        self._failure: Exception | None = None
        self._was_said = False
        self._lines: queue.Queue[tuple[int, dict[str, float]] | None] = queue.Queue(MOST_WAITING)
        self._thread = threading.Thread(target=self._follow, name=f"tracker {name}", daemon=True)
        self._thread.start()

    def on_log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Never waits, never raises."""
        try:
            self._lines.put_nowait((step, dict(metrics)))
        except queue.Full as error:
            self._failure = self._failure or error
        self._say()

    def close(self) -> None:
        """Wait for what is left, for a while."""
        if self._thread.is_alive():
            with suppress(queue.Full):
                self._lines.put(None, timeout=PATIENCE)
            self._thread.join(PATIENCE)
        self._say()

    def _follow(self) -> None:
        try:
            while (line := self._lines.get()) is not None:
                self.tracker.on_log(*line)
            if hasattr(self.tracker, "close"):
                self.tracker.close()
        except Exception as error:  # of whatever library: it is not the training's
            self._failure = error

    def _say(self) -> None:
        if self._failure is not None and not self._was_said:
            self._was_said = True
            what = f"{type(self._failure).__name__}: {self._failure}".rstrip(": ")
            warnings.warn(f"tracker {self.name} follows no more, the training goes on: {what}", stacklevel=3)
