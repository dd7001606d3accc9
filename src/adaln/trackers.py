"""What follows a training besides its own files: TensorBoard, W&B, trackio and MLflow, which cannot stop or slow it.

Source: torch.utils.tensorboard; wandb 0.31 and trackio 0.43, whose `init`, `log`, `alert` and media are the same calls;
mlflow 3.17.
"""

import json
import os
import queue
import sys
import threading
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout, suppress
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Any, Protocol, runtime_checkable
from uuid import uuid4

from adaln.files import write_atomically

KNOWN_AS = "trackers.json"
"""What runs of a folder are known by to services."""
MOST_WAITING = 10_000
"""Calls that wait for a tracker that is slow; later ones are dropped, which is said."""
PATIENCE = 30.0
"""Seconds that the end of a training waits for what is still to be sent."""
MOST_METRICS, SECONDS = 1_000, 5.0
"""MLflow's most numbers in a call, and how long they are gathered for it."""
OWN, STANDARD = (f"{Path(file).parent}{os.sep}" for file in (__file__, os.__file__))
INSTALLED = {"site-packages", "dist-packages"}
"""Where code lies that is no program's own: ours, Python's, and folders of what is installed."""


Counts = tuple[Sequence[int], Sequence[float]]
"""A histogram: counts, and the edges between them."""


@runtime_checkable
class Tracker(Protocol):
    """What follows one training; lives in the first process.

    Of these calls it may have as many as it likes, and gets those that it has: `open()`, first of all and in its own
    thread, where whatever waits for a service belongs, `on_histograms(step, counts by name)`,
    `on_image(step, name, pixels)` of bytes (H, W, 3), `on_event(step, title, text)`, `on_page(index.html)`, `close()`.
    """

    def on_log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Called with numbers by name, in the order of steps."""
        ...


class TensorBoard:
    """Event files in FOLDER/tensorboard."""

    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        import_extra("tensorboard")
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(folder / "tensorboard"))
        rows = "\n".join(f"    {key}: {value}" for key, value in config.items())
        self.writer.add_text("config", f"{folder.name}\n\n{rows}")

    def on_log(self, step: int, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            self.writer.add_scalar(name, value, step)

    def on_histograms(self, step: int, histograms: Mapping[str, Counts]) -> None:
        for name, (counts, edges) in histograms.items():
            middles = [(low + high) / 2 for low, high in pairwise(edges)]
            weighed = [(count, middle) for count, middle in zip(counts, middles, strict=True)]
            self.writer.add_histogram_raw(
                name,
                min=edges[0],
                max=edges[-1],
                num=sum(counts),
                sum=sum(count * middle for count, middle in weighed),
                sum_squares=sum(count * middle**2 for count, middle in weighed),
                bucket_limits=list(edges[1:]),
                bucket_counts=list(counts),
                global_step=step,
            )

    def on_image(self, step: int, name: str, pixels: Any) -> None:
        self.writer.add_image(name, pixels, step, dataformats="HWC")

    def on_event(self, step: int, title: str, text: str) -> None:
        self.writer.add_text(title, text, step)

    def on_page(self, page: Path) -> None:
        self.writer.add_text("report", page.with_suffix(".md").read_text(encoding="utf-8"))

    def close(self) -> None:
        self.writer.close()


class Board:
    """A run of W&B or of trackio, which have the same calls.

    A run of trackio's that the program has begun itself gets the numbers beside its own, and is not ended.
    """

    def __init__(self, library: Any, active: Any, name: str, config: Mapping[str, Any], **settings: Any) -> None:
        self.library, self.run, self.is_joined = library, active, active is not None
        self._begun_as = settings | {"name": name, "config": dict(config), "resume": "allow"}
        if self.is_joined:
            self.run.config.update({"adaln": dict(config)})

    def open(self) -> None:
        """Begin the run, or go on with it."""
        if self.run is None:
            self.run = self.library.init(**self._begun_as)

    def _log(self, step: int, values: Mapping[str, Any]) -> None:
        if self.is_joined:  # whose steps are the program's
            self.run.log({**values, "adaln_step": step})
        else:
            self.run.log(dict(values), step=step)

    def on_log(self, step: int, metrics: Mapping[str, float]) -> None:
        self._log(step, metrics)

    def on_histograms(self, step: int, histograms: Mapping[str, Counts]) -> None:
        self._log(step, {name: self.library.Histogram(np_histogram=one) for name, one in histograms.items()})

    def on_image(self, step: int, name: str, pixels: Any) -> None:
        self._log(step, {name: self.library.Image(pixels)})

    def on_event(self, step: int, title: str, text: str) -> None:
        self.run.alert(title, text)

    def on_page(self, page: Path) -> None:
        self.run.log({"report": self.library.Html(str(page))})

    def close(self) -> None:
        if not self.is_joined:
            with redirect_stdout(sys.stderr):
                self.run.finish()


class MLflow:
    """A run of its own of the experiment adaln, or within the run that the program has begun itself; gone on with by
    its folder. MLflow has no histograms; warnings are tags."""

    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        library = import_extra("mlflow")
        self.client, self.entities, self.outer = library.MlflowClient(), library.entities, library.active_run()
        self.known_as, self.config = known_as(folder), dict(config)
        self.run = ""
        self._rows: list[Any] = []
        self._sent_at = time.monotonic()

    def open(self) -> None:
        """Begin the run, or go on with it."""
        name, own_id = self.known_as
        tags = {"adaln.id": own_id}
        if self.outer is None:
            there = self.client.get_experiment_by_name("adaln")
            place = there.experiment_id if there else self.client.create_experiment("adaln")
        else:
            place, tags["mlflow.parentRunId"] = self.outer.info.experiment_id, self.outer.info.run_id
        alike = " and ".join(f'tags.`{key}` = "{value}"' for key, value in tags.items())
        begun = self.client.search_runs([place], alike, max_results=1)
        self.run = (begun[0] if begun else self.client.create_run(place, run_name=name, tags=tags)).info.run_id
        self.client.log_dict(self.run, self.config, "config.json")

    def on_log(self, step: int, metrics: Mapping[str, float]) -> None:
        now = round(1000 * time.time())
        self._rows += [self.entities.Metric(name, value, now, step) for name, value in metrics.items()]
        if len(self._rows) >= MOST_METRICS or time.monotonic() - self._sent_at >= SECONDS:
            self._send()

    def _send(self) -> None:
        while self._rows:
            self.client.log_batch(self.run, metrics=self._rows[:MOST_METRICS])
            del self._rows[:MOST_METRICS]
        self._sent_at = time.monotonic()

    def on_image(self, step: int, name: str, pixels: Any) -> None:
        self.client.log_image(self.run, pixels, key=name, step=step)

    def on_event(self, step: int, title: str, text: str) -> None:
        self.client.set_tag(self.run, title.replace(":", ""), f"step {step:,}: {text}")

    def on_page(self, page: Path) -> None:
        self.client.log_artifact(self.run, str(page), "report")

    def close(self) -> None:
        self._send()
        self.client.set_terminated(self.run)


def import_extra(package: str) -> Any:
    """A package of an extra of its name; `ValueError` with the command that installs it."""
    try:
        return import_module(package)
    except ImportError as error:
        name = package.partition(".")[0]
        raise ValueError(f"{name} is not installed; pip install 'adaln[{name}]'") from error


def known_as(folder: Path) -> tuple[str, str]:
    """(name to be read, id) of a folder's runs, kept in it: whatever goes on there goes on with them, though it was
    moved; another folder of that name, or one that is begun anew, has others."""
    file = folder / KNOWN_AS
    if not file.is_file():
        own = {"name": "/".join(folder.resolve().parts[-2:]), "id": uuid4().hex[:12]}
        write_atomically(file, json.dumps(own) + "\n")
    own = json.loads(file.read_text(encoding="utf-8"))
    return str(own["name"]), str(own["id"])


def wandb(folder: Path, config: Mapping[str, Any]) -> Board:
    """A run of its own, gone on with by its folder: of the project adaln, or beside the run that the program has begun
    itself, in that one's project and group. In one run, whose rows have one ascending step, what the one logs late
    drops what the other logs."""
    library = import_extra("wandb")
    name, own_id = known_as(folder)
    beside, place = library.run, {"project": "adaln", "id": own_id}
    if beside is not None:
        theirs = {"project": beside.project, "entity": beside.entity, "group": beside.group}
        place = {key: value for key, value in theirs.items() if value} | {"id": f"{beside.id}-{own_id}"}
    return Board(library, None, name, config, reinit="create_new", dir=str(folder), **place)


def trackio(folder: Path, config: Mapping[str, Any]) -> Board:
    """The program's own run, or one of the local project adaln, gone on with by its folder: trackio tells runs apart
    by their names. A run of ours is never the current one, which the next `init` would end and we would join."""
    library, unique = import_extra("trackio"), "-".join(known_as(folder)).replace("/", "-")
    theirs = (current := library.context_vars.current_run).get()
    board = Board(library, theirs, unique, config, project="adaln")
    with redirect_stdout(sys.stderr):  # it prints what it does; standard output is the command's answer
        board.open()
    current.set(theirs)
    return board


KNOWN: Mapping[str, Callable[[Path, Mapping[str, Any]], Tracker]] = {
    "tensorboard": TensorBoard,
    "wandb": wandb,
    "trackio": trackio,
    "mlflow": MLflow,
}
"""By name: of (folder, config as plain data) what follows."""


def warn(text: str, category: type[Warning] = UserWarning) -> None:
    """As `warnings.warn` at the line of the program that led here, whatever libraries called us for it; on standard
    error where warnings are errors: it is said in the middle of a training."""
    try:
        warnings.warn(text, category, levels_to_program(sys._getframe()) + 1)
    except category:
        sys.stderr.write(f"{category.__name__}: {text}\n")


def levels_to_program(frame: FrameType | None) -> int:
    """From a frame, those up to the first that is neither ours nor an installed library's; where there is none, to the
    first that is not ours, or to the last of all."""
    files: list[str] = []
    while frame is not None:
        files.append(frame.f_code.co_filename)
        frame = frame.f_back
    others = [i for i, file in enumerate(files) if not file.startswith((OWN, "<@beartype"))]
    program = (i for i in others if not (INSTALLED & set(Path(files[i]).parts) or files[i].startswith(STANDARD)))
    return next(program, others[0] if others else len(files) - 1)


def in_words(error: BaseException) -> str:
    """What kind it is and what it says, in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}".rstrip(": ")


class Beside:
    """A tracker in a thread of its own: what it raises is said once, and no more of it is asked for."""

    def __init__(self, name: str, tracker: Tracker) -> None:
        self.name, self.tracker = name, tracker
        self._failure: BaseException | None = None
        self._was_said = False
        self._calls: queue.Queue[tuple[str, tuple[Any, ...]] | None] = queue.Queue(MOST_WAITING)
        self._thread = threading.Thread(target=self._follow, name=f"tracker {name}", daemon=True)
        self.send("open")
        self._thread.start()

    def has(self, call: str) -> bool:
        """Whether the tracker has that call, and still follows."""
        try:
            return self._failure is None and hasattr(self.tracker, call)
        except Exception as error:  # of a property
            self._failure = error
            return False

    def send(self, call: str, *arguments: Any) -> None:
        """A call of `Tracker`, where it has that one. Never waits, never raises."""
        try:
            if self.has(call):
                self._calls.put_nowait((call, arguments))
        except queue.Full as error:
            self._failure = self._failure or error
        self._say()

    def on_log(self, step: int, metrics: Mapping[str, float]) -> None:
        """As `send`, with numbers that the caller may change afterwards."""
        self.send("on_log", step, dict(metrics))

    def close(self) -> None:
        """Wait for what is left, for a while."""
        if self._thread.is_alive():
            with suppress(queue.Full):
                self._calls.put(None, timeout=PATIENCE)
            self._thread.join(PATIENCE)
            if self._thread.is_alive():
                self._failure = self._failure or TimeoutError(f"no answer for {PATIENCE:g} s; what is left is not sent")
        self._say()

    def _follow(self) -> None:
        try:
            while (waiting := self._calls.get()) is not None:
                call, arguments = waiting
                getattr(self.tracker, call)(*arguments)
            if hasattr(self.tracker, "close"):
                self.tracker.close()
        except BaseException as error:  # of whatever library, which may want to end the program
            self._failure = error

    def _say(self) -> None:
        if self._failure is not None and not self._was_said:
            self._was_said = True
            what = in_words(self._failure)
            warn(f"tracker {self.name} follows no more, the training goes on: {what}")
