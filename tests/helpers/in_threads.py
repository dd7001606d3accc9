"""Several processes of a group played by threads: quick, and enough for what only tells and waits."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from adaln import parallel


class Threads:
    """What `adaln.parallel` asks of torch.distributed, where each thread is a process."""

    def __init__(self, world: int) -> None:
        self.values: list[Any] = [None] * world
        self.meeting = threading.Barrier(world, timeout=60)
        self.own = threading.local()

    def is_initialized(self) -> bool:
        return hasattr(self.own, "rank")

    def get_rank(self) -> int:
        return self.own.rank

    def get_world_size(self) -> int:
        return len(self.values)

    def all_gather_object(self, values: list[Any], value: Any, group: None) -> None:
        self.values[self.own.rank] = value
        self.meeting.wait()
        values[:] = self.values
        self.meeting.wait()

    def run(self, rank: int, function) -> Any:
        self.own.rank = rank
        try:
            return function()
        except BaseException:
            self.meeting.abort()
            raise


def in_processes(monkeypatch, world: int, function) -> list[Any]:
    """What `function` returns in each of `world` processes."""
    threads = Threads(world)
    with monkeypatch.context() as patch, ThreadPoolExecutor(world) as pool:
        patch.setattr(parallel, "dist", threads)
        return [future.result() for future in [pool.submit(threads.run, rank, function) for rank in range(world)]]
