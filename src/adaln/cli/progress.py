"""Progress on standard error: a bar with rate and time left on a terminal, a line now and then elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Protocol, runtime_checkable

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from adaln.parallel import rank
from adaln.progress import no_progress, shown_progress

LINE_EVERY_SECONDS = 15.0


class Advance(Protocol):
    """Tells a bar what was just finished, and what there is in all once that is known."""

    def __call__(self, count: int, total: int | None = None) -> None: ...


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{rounded(task.speed)} {task.fields['unit']}/s" if task.speed else "")


@contextmanager
def progress(description: str, total: int | None, unit: str, done: int = 0) -> Iterator[Advance]:
    """A bar for `total` units, `done` of them before; call what it yields with the number of units just finished."""
    if not sys.stderr.isatty():
        yield _Lines(description, total, unit, done)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        task = bars.add_task(description, total=total, completed=done, unit=unit)

        def advance(count: int, total: int | None = None) -> None:
            bars.update(task, advance=count, total=total)

        yield advance


@runtime_checkable
class Tell(Protocol):
    """Says how far a stage is; it begins when it is named and ends when another is, or when it starts over."""

    def __call__(self, stage: str, done: int, total: int, unit: str = "items") -> None: ...


@contextmanager
def told() -> Iterator[Tell]:
    """For work that names its own stages, of which one is shown at a time: call what it yields.

    Of the processes of torchrun the first one shows. Within a block another one shows in the same place.
    """
    outer = shown_progress()
    if outer is not no_progress and isinstance(outer, Tell):
        yield outer
        return
    with ExitStack() as shown:
        current, before = "", 0
        advance: Advance | None = None

        def tell(stage: str, done: int, total: int, unit: str = "items") -> None:
            nonlocal current, before, advance
            if rank():
                return
            if stage != current or done < before or advance is None:
                shown.close()
                current, before = stage, done
                advance = shown.enter_context(progress(stage, total or None, unit, done))
            advance(done - before)
            before = done

        yield tell


def counted(tell: Tell, stage: str, total: int | None, unit: str, each: int = 1) -> Callable[[int], None]:
    """For work that tells what it has just finished: turns counts into `tell`, beginning anew after `total`.

    `each`: how many of what is counted make one of the units that are shown.
    """
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done = (0 if done == total else done) + count
        tell(stage, done // each, (total or 0) // each, unit)

    return advance


class _Lines:
    """Lines for a log file: done, rate, time left."""

    def __init__(self, description: str, total: int | None, unit: str, done: int) -> None:
        self.description, self.total, self.unit = description, total, unit
        self.before, self.finished = done, 0
        self.start = self.last = time.monotonic()

    def __call__(self, count: int, total: int | None = None) -> None:
        self.finished += count
        self.total = total or self.total
        now = time.monotonic()
        if now - self.last >= LINE_EVERY_SECONDS and self.finished:
            self.last = now
            sys.stderr.write(f"{self.description}: {self._state(now)}\n")
            sys.stderr.flush()

    def _state(self, now: float) -> str:
        done, rate = self.before + self.finished, self.finished / (now - self.start)
        of = f" of {self.total:,.0f}" if self.total else ""
        left = f", {duration((self.total - done) / rate)} left" if self.total else ""
        return f"{done:,.0f}{of} {self.unit} ({rounded(rate)} {self.unit}/s{left})"


def rounded(rate: float) -> str:
    """A rate to a digit or two where it is small.

    >>> rounded(1234.5), rounded(9.87), rounded(0.0123)
    ('1,234', '9.9', '0.012')
    """
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"


def duration(seconds: float) -> str:
    """Seconds as people read them.

    >>> duration(42), duration(200), duration(9000)
    ('42 s', '3 min 20 s', '2 h 30 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
