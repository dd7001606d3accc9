"""What people and machines see of a verb on standard output."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from adaln.report import Table, show

PIPED_WIDTH = 160
"""Columns of a table that no terminal folds."""


@dataclass(frozen=True, slots=True)
class Output:
    """What a verb gives back: data for machines, tables and lines for people."""

    data: Any
    """JSON-able, what `--json` prints."""
    shown: Sequence[str | Table] = ()
    """What a person reads, in order."""
    failure: str = ""
    """Why the exit code is 2 for all that: the line on standard error."""

    def show(self) -> None:
        """Print for people."""
        console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else PIPED_WIDTH)
        show(self.shown, console)


SILENT = Output(None)
"""Of the processes that torchrun started, the first one has an output; this is what the others return."""
