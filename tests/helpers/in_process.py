"""Tasks done by the test's own process: workers take seconds to start."""

from collections.abc import Callable, Mapping
from contextvars import copy_context

from adaln.execution import num_threads
from adaln.studies.run.workers import Failure, Task, attempt


class InProcess:
    """Does tasks in this process, one after the other: nothing to start, and nothing that outlives it."""

    def __init__(self, device: str = "cpu") -> None:
        self._device = device

    def run(self, tasks: Mapping[str, Task], watch: Callable[[float | None], None]) -> dict[str, Failure]:
        """See `Launcher`."""
        done, outside = 0.0, copy_context()

        def advance(count: float) -> None:
            nonlocal done
            done += count
            outside.run(watch, done)  # shown by whom it was before the task, not by the task

        with num_threads(1):  # as a worker has: results do not depend on who computes them
            ended = {name: attempt(task, self._device, advance) for name, task in tasks.items()}
        return {name: failure for name, failure in ended.items() if failure}
