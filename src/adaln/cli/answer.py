"""What a verb gives back: data for machines, tables and lines for people."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from adaln.report import Table, terminal

PIPED_WIDTH = 160
"""Columns of a table that no terminal folds."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The outcome of a verb."""

    data: Any
    """JSON-able, what `--json` prints."""
    shown: Sequence[str | Table] = ()
    """What a person reads, in order."""

    def show(self) -> None:
        """Print for people."""
        console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else PIPED_WIDTH)
        for part in self.shown:
            console.print(part if isinstance(part, str) else terminal(part), markup=False)


SILENT = Answer(None)
"""Of the processes that torchrun started, one answers; this is what the others return, and nothing is printed."""
