"""How far work is: what works calls `progress(stage, done, total, unit)`, what shows it to people says so by `showing`.

Nobody hands a progress on: work may begin anywhere, as data that is decoded when it is first looked at.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Progress = Callable[[str, int, int, str], None]
"""What is called with the stage, how much of it is done, how much there is (0: not known), and in which unit."""


_shown: ContextVar[Progress] = ContextVar("shown", default=lambda stage, done, total, unit: None)


def progress(stage: str, done: int, total: int, unit: str) -> None:
    """Say that `done` of `total` units of a stage are done, to whoever shows it; 0 units in all: not known.

    A stage begins when it is first named, best with what lay there before, and ends when another is named or when less
    of it is done than before.
    """
    _shown.get()(stage, done, total, unit)


Words = Callable[[str, float], str]
"""What else is to be said of a stage, of which so much is done in a second; "" where there is nothing."""
_words: ContextVar[Words] = ContextVar("words", default=lambda stage, rate: "")


def words_of(stage: str, rate: float) -> str:
    """What stands beside the progress of a stage now: a loss, say."""
    return _words.get()(stage, rate)


@contextmanager
def describing(words: Words) -> Iterator[None]:
    """In this block `words` are asked what to say of a stage, whenever its progress is shown."""
    before = _words.set(words)
    try:
        yield
    finally:
        _words.reset(before)


_noted: ContextVar[Callable[[str], None]] = ContextVar("noted", default=lambda line: None)


def note(line: str) -> None:
    """Say what is to be known before work begins, in one line, to whoever shows it."""
    _noted.get()(line)


@contextmanager
def noting(display: Callable[[str], None]) -> Iterator[None]:
    """In this block `display` shows the notes of this thread."""
    before = _noted.set(display)
    try:
        yield
    finally:
        _noted.reset(before)


@contextmanager
def showing(display: Progress) -> Iterator[None]:
    """In this block `display` shows the progress of this thread."""
    before = _shown.set(display)
    try:
        yield
    finally:
        _shown.reset(before)


@contextmanager
def titled(title: str) -> Iterator[None]:
    """In this block every stage is shown under a title."""
    outer = _shown.get()
    with showing(lambda stage, done, total, unit: outer(f"{title}: {stage}", done, total, unit)):
        yield
