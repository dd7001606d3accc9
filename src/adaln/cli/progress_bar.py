"""How far work is, as people see it: a bar on a terminal and in a notebook, elsewhere a line now and then."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from html import escape

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from adaln.launchers import is_first
from adaln.progress import noting, showing, words_of

FIRST_LINE_SECONDS, LINE_EVERY_SECONDS, DRAWN_EVERY_SECONDS = 2.0, 15.0, 0.1
WORDS_EVERY_SECONDS = 1.0
"""What stands beside a bar may read a GPU."""
Update = Callable[[int, int], None]
"""Called with how much is done, and how much there is (0: not known)."""


@contextmanager
def show_progress() -> "Iterator[Display]":
    """In this block work shows how far it is: a bar on a terminal and in a notebook, elsewhere a line now and then.

    All of it goes to standard error.

    >>> import adaln
    >>> from tempfile import mkdtemp
    >>> with adaln.show_progress():
    ...     run = adaln.train(adaln.preset("digits", steps=2), mkdtemp())
    """
    with Display() as shown, showing(shown), noting(shown.note):
        yield shown


def in_notebook() -> bool:
    """Whether a cell is what shows it."""
    return Console().is_jupyter


class Display(ExitStack):
    """A `Progress` that shows one stage at a time, until its block is left; of torchrun's processes the first one's."""

    def __init__(self) -> None:
        super().__init__()
        self._stage, self._done, self._of = "", 0, ""
        self._noted: set[str] = set()
        self._update: Update = lambda done, total: None

    def __call__(self, stage: str, done: int, total: int, unit: str) -> None:
        """Go on with the bar or the lines of a stage, or begin them."""
        if not is_first():
            return
        if stage != self._stage or done < self._done:
            self.close()
            kind = notebook_bar if in_notebook() else bar if sys.stderr.isatty() else lines
            self._update = self.enter_context(kind(stage, done, unit))
        self._stage, self._done = stage, done
        self._of = f"{f'{done:,} of {total:,}' if total else f'{done:,}'} {unit} ({stage})"
        self._update(done, total)

    def so_far(self) -> str:
        """How far the last stage is that was shown, for a sentence that goes on: "" where none was."""
        return f" at {self._of}" if self._of else ""

    def note(self, line: str) -> None:
        """Write a line above the bar, once; of torchrun's processes the first one's."""
        if is_first() and line not in self._noted:
            self.close()
            self._stage = ""
            self._noted.add(line)
            sys.stderr.write(f"{line}\n")
            sys.stderr.flush()


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{rounded(task.speed)} {task.fields['unit']}/s" if task.speed else "")


@contextmanager
def bar(stage: str, before: int, unit: str) -> Iterator[Update]:
    """For a terminal. What was done before makes neither rate nor time left rosier.

    Drawn when work says how far it is, not by a thread, which would take turns with what is timed.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
    words = TextColumn("{task.fields[words]}")
    with Progress(*columns, words, console=Console(stderr=True), auto_refresh=False) as bars:
        task, last, asked = bars.add_task(stage, total=None, completed=before, unit=unit, words=""), 0.0, 0.0

        def update(done: int, total: int) -> None:
            nonlocal last, asked
            now = time.monotonic()
            if now - last < DRAWN_EVERY_SECONDS:
                bars.update(task, completed=done, total=total or None)
                return
            last = now
            if now - asked >= WORDS_EVERY_SECONDS:
                asked = now
                bars.update(task, words=words_of(stage, bars.tasks[0].speed or 0))
            bars.update(task, completed=done, total=total or None, refresh=True)

        yield update


@contextmanager
def lines(stage: str, before: int, unit: str) -> Iterator[Update]:
    """For a log file: soon, then now and then a line with what is done, what is said of it, rate and time left."""
    start, due = time.monotonic(), time.monotonic() + FIRST_LINE_SECONDS

    def update(done: int, total: int) -> None:
        nonlocal due
        now = time.monotonic()
        words = "" if now < due else words_of(stage, rate := (done - before) / max(now - start, 1e-9))
        if now < due or (done == before and not words):
            return
        due = now + LINE_EVERY_SECONDS
        sys.stderr.write(f"{stage}: {line_of(done, total, unit, rate, words)}\n")
        sys.stderr.flush()

    yield update


@contextmanager
def notebook_bar(stage: str, before: int, unit: str) -> Iterator[Update]:
    """In the output of a cell, of which a saved notebook keeps the last state."""
    from IPython.display import HTML, display

    shown, start, due = display(HTML(""), display_id=True), time.monotonic(), 0.0

    def update(done: int, total: int) -> None:
        nonlocal due
        now = time.monotonic()
        if now < due and done != total:
            return
        due, rate = now + WORDS_EVERY_SECONDS, (done - before) / max(now - start, 1e-9)
        part = f'<progress value="{done}" max="{total}"></progress> ' if total else ""
        shown.update(HTML(f"{part}{escape(f'{stage}: {line_of(done, total, unit, rate, words_of(stage, rate))}')}"))

    yield update


def line_of(done: int, total: int, unit: str, rate: float, words: str) -> str:
    """How far work is, what is said of it, rate and time left.

    >>> line_of(30, 90, "steps", 2.0, "loss 0.1")
    '30 of 90 steps, loss 0.1 (2 steps/s, 30 s left)'
    """
    of, beside = f" of {total:,}" if total else "", f", {words}" if words else ""
    left = f", {duration((total - done) / rate)} left" if total and rate else ""
    speed = f" ({rounded(rate)} {unit}/s{left})" if rate else ""
    return f"{done:,}{of} {unit}{beside}{speed}"


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


def span(seconds: float) -> str:
    """Hours and minutes, from two days on in days.

    >>> span(90), span(200_000), span(1e9)
    ('1 min 30 s', '2.3 days', '11,574 days')
    """
    days = seconds / 86_400
    return duration(seconds) if days < 2 else f"{days:,.1f} days" if days < 100 else f"{days:,.0f} days"
