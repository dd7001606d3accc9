"""What people and machines see of a verb on standard output."""

import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from adaln.report import Table, show

PIPED_WIDTH = 160
"""Columns of a terminal that nobody says: neither COLUMNS nor the terminal itself."""


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
        width = shutil.get_terminal_size((PIPED_WIDTH, 0)).columns
        is_said = sys.stdout.isatty() or "COLUMNS" in os.environ
        show(self.shown, Console(highlight=False, soft_wrap=True, width=width), width if is_said else None)


SILENT = Output(None)
"""Of the processes that torchrun started, the first one has an output; this is what the others return."""
