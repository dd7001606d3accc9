"""Trackers beside a run that trains."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from adaln.parallel import rank
from adaln.runs import Run
from adaln.trackers import Beside, Tracker
from adaln.training import TRACKERS
from adaln.types import OnLog


def check_trackers(names: Sequence[str]) -> None:
    """`ValueError` for a name that stands for none, before anything is written."""
    for name in names:
        TRACKERS[name]


@contextmanager
def followed(run: Run, names: Sequence[str]) -> Iterator[list[OnLog]]:
    """By trackers, in the first process, each beside the training; at its end they send what is left."""
    trackers = [Beside(name, tracker_of(run, name)) for name in names if rank() == 0]
    try:
        yield [tracker.on_log for tracker in trackers]
    finally:
        for tracker in trackers:
            tracker.close()


def tracker_of(run: Run, name: str) -> Tracker:
    """The tracker of that name for a run; `ValueError` where it cannot be made or does not take lines."""
    try:
        tracker = TRACKERS[name](run)
        if not isinstance(tracker, Tracker):
            raise TypeError(f"a {type(tracker).__name__} has no on_log")
    except Exception as error:
        raise ValueError(f"tracker {name!r} cannot be used: {type(error).__name__}: {error}") from error
    return tracker
