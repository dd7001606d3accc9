"""How far work is: what does it calls `progress(stage, done, total, unit)`, whoever shows it is given that function."""

from collections.abc import Callable

Progress = Callable[[str, int, int, str], None]
"""Called with the stage, how much of it is done, how much there is (0: not known), and in which unit.

A stage begins when it is first named and ends when another is named, or when less of it is done than before.
"""


def no_progress(stage: str, done: int, total: int, unit: str) -> None:
    """The `Progress` that shows nothing."""
