"""How far work is: what does it calls `progress(stage, done, total, unit)`, whoever shows it is given that function."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Progress = Callable[[str, int, int, str], None]
"""Called with the stage, how much of it is done, how much there is (0: not known), and in which unit.

A stage begins when it is first named and ends when another is named, or when less of it is done than before.
"""


def no_progress(stage: str, done: int, total: int, unit: str) -> None:
    """The `Progress` that shows nothing."""


_shown: ContextVar[Progress] = ContextVar("shown", default=no_progress)


@contextmanager
def showing(progress: Progress) -> Iterator[None]:
    """In this block `shown_progress()` is `progress`."""
    before = _shown.set(progress)
    try:
        yield
    finally:
        _shown.reset(before)


def shown_progress() -> Progress:
    """What shows work that begins where nobody can hand it a `Progress`, as data decoded when it is first looked at."""
    return _shown.get()
