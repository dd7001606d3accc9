"""Results that show themselves: as text where they are printed, as HTML in a notebook."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from adaln.report.html import fragment
from adaln.report.tables import Table
from adaln.report.text import show

WIDTH = 160
"""Characters of a line that nothing folds."""


class Shown(ABC):
    """What can be shown as paragraphs and tables."""

    @abstractmethod
    def blocks(self) -> Sequence[str | Table]:
        """What a reader is shown, in order."""

    def __str__(self) -> str:
        from rich.console import Console

        console = Console(highlight=False, soft_wrap=True, width=WIDTH, color_system=None)
        with console.capture() as text:
            show(self.blocks(), console)
        return "\n".join(line.rstrip() for line in text.get().splitlines())

    def _repr_html_(self) -> str:
        return fragment(self.blocks())
