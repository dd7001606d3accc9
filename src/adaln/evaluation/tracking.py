"""Trackers beside a run that trains."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np

from adaln.evaluation.held_out import HeldOutLoss
from adaln.evaluation.samples import first_images
from adaln.metrics import Scores
from adaln.parallel import rank
from adaln.runs import Run
from adaln.specs import WeightSet
from adaln.trackers import Beside, Tracker, in_words, warn
from adaln.training import TRACKERS


def check_trackers(names: Sequence[str]) -> None:
    """`ValueError` for a name that stands for none, before anything is written."""
    for name in names:
        TRACKERS[name]


@contextmanager
def followed(run: Run, names: Sequence[str], page: Callable[[Run], Path] | None = None) -> Iterator[list[Beside]]:
    """By trackers, in the first process, each beside the training; at its end they send what is left, and its page."""
    trackers = [Beside(name, tracker_of(run, name)) for name in names if rank() == 0]
    try:
        yield trackers
        if page and (shown := [tracker for tracker in trackers if tracker.has("on_page")]):
            send_page(shown, partial(page, run))
    finally:
        for tracker in trackers:
            tracker.close()


def send_page(trackers: Sequence[Beside], page: Callable[[], Path]) -> None:
    """A page that cannot be made is a warning: the training is at its end."""
    try:
        path = page()
    except Exception as error:
        warn(f"trackers get no page: {in_words(error)}")
        return
    for tracker in trackers:
        tracker.send("on_page", path)


def send_losses(trackers: Sequence[Beside], step: int, losses: Mapping[WeightSet, HeldOutLoss]) -> None:
    """Held-out losses of a checkpoint, by the weights that they are of."""
    for tracker in trackers:
        tracker.on_log(step, {f"held_out_loss/{name}": loss.mean.value for name, loss in losses.items()})


def send_scores(trackers: Sequence[Beside], step: int, scores: Scores, samples: Path) -> None:
    """Scores of a checkpoint, and the first of the samples that they are of."""
    for tracker in trackers:
        tracker.on_log(step, {f"scores/{name}": score.value for name, score in scores.scores.items()})
        if tracker.has("on_image"):
            images, _ = first_images(samples, 64, 8)
            rows = np.concatenate(np.concatenate(images, axis=1), axis=1)  # (H of all rows, W of all columns, C)
            tracker.send("on_image", step, "samples", np.broadcast_to(rows, (*rows.shape[:2], 3)).copy())


def tracker_of(run: Run, name: str) -> Tracker:
    """The tracker of that name for a run; `ValueError` where it cannot be made or does not take lines."""
    try:
        tracker = TRACKERS[name](run)
        if not isinstance(tracker, Tracker):
            raise TypeError(f"a {type(tracker).__name__} has no on_log")
    except (Exception, SystemExit) as error:
        raise ValueError(f"tracker {name!r} cannot be used: {in_words(error)}") from error
    return tracker
