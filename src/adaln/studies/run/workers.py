"""Tasks on this machine: worker processes, each held to its own cores or its own GPU.

A worker takes one task after another. One that fails, or takes its process with it (out of memory, say), is reported
and loses no other. What a task computes does not depend on which worker took it, nor on how many there are.
"""

import itertools
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from types import FrameType
from typing import Any, Protocol, runtime_checkable

import torch

from adaln.progress import describing, showing

STAGE_BYTES = 200
"""Of what a worker says of itself."""
Advance = Callable[[float], None]
"""Called with the work done since the last call."""
Task = Callable[[str, Advance], None]
"""Work that can be pickled: called with the device to compute on, and with what it calls as it goes on."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a task did not end well."""

    kind: str
    """Name of the exception's class; "Killed" where the process is gone."""
    message: str


@runtime_checkable
class Launcher(Protocol):
    """What gets tasks done, wherever that is."""

    def run(self, tasks: Mapping[str, Task], watch: Callable[[float | None], None]) -> dict[str, Failure]:
        """Do all the tasks, and return why some did not end well, by name.

        Meanwhile calls `watch`, every now and then, with the work that is done; None where that is not known here.
        """
        ...


@dataclass(frozen=True, slots=True)
class Worker:
    """What one worker computes on."""

    device: str
    cores: frozenset[int] | None = None
    """CPU cores that it is held to; None: whichever the system gives."""
    gpu: str | None = None
    """The one GPU that it sees, in the words of CUDA_VISIBLE_DEVICES; None: as this process does."""


def workers_for(device: torch.device, count: int | None = None) -> list[Worker]:
    """`count` workers; default: one for each GPU, or for each core of the CPU.

    Cores are shared out in disjoint runs. More workers than cores or GPUs take them in turn.
    """
    if count is not None and count < 1:
        raise ValueError(f"jobs is {count}; expected an integer >= 1")
    if device.type == "cuda":
        gpus = _visible_gpus() if device.index is None else [_visible_gpus()[device.index]]
        return [Worker("cuda", gpu=gpus[k % len(gpus)]) for k in range(count or len(gpus))]
    if device.type != "cpu":
        return [Worker(str(device))] * (count or 1)
    cores = usable_cores()
    count = count or len(cores)
    if count > len(cores):
        return [Worker("cpu", frozenset([cores[k % len(cores)]])) for k in range(count)]
    ends = [k * len(cores) // count for k in range(count + 1)]
    return [Worker("cpu", frozenset(cores[a:b])) for a, b in itertools.pairwise(ends)]


def usable_cores() -> list[int]:
    """The cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _visible_gpus() -> list[str]:
    count, chosen = torch.cuda.device_count(), os.environ.get("CUDA_VISIBLE_DEVICES")
    return [name.strip() for name in chosen.split(",")][:count] if chosen else [str(k) for k in range(count)]


class Workers:
    """A process for each worker; they start when there is work, and leave when the block ends."""

    def __init__(self, workers: Sequence[Worker]) -> None:
        if getattr(sys.modules["__main__"], "__file__", "") == "<stdin>":
            raise ValueError("worker processes cannot import a program from standard input; expected one in a file")
        self._free = deque(workers)
        self._all: list[_Process] = []
        self._idle: list[_Process] = []
        self._busy: dict[Connection, tuple[_Process, str]] = {}

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *error: object) -> None:
        """Whoever is still at work is asked to stop, and saves first."""
        for member in self._all:
            if member not in self._idle:
                member.process.terminate()
        for member in self._all:
            member.leave()

    def run(self, tasks: Mapping[str, Task], watch: Callable[[float | None], None]) -> dict[str, Failure]:
        """See `Launcher`."""
        waiting, failures, done = deque(tasks.items()), dict[str, Failure](), 0.0
        while waiting or self._busy:
            while waiting and (self._idle or self._free):
                self._give(*waiting.popleft())
            for pipe in wait(list(self._busy), timeout=0.25):
                assert isinstance(pipe, Connection)
                member, name = self._busy.pop(pipe)
                failure = member.outcome()
                done += member.done.value
                member.done.value = 0.0
                if failure:
                    failures[name] = failure
                if member.process.is_alive():
                    self._idle.append(member)
                else:
                    self._free.append(member.worker)
            with describing(self._stage):
                watch(done + sum(member.done.value for member, _ in self._busy.values()))
        return {name: failures[name] for name in tasks if name in failures}

    def _stage(self, stage: str, rate: float) -> str:
        """What one of those at work says of itself."""
        lines = (member.stage.value.decode(errors="ignore") for member, _ in self._busy.values())
        return next((line for line in lines if line), "")

    def _give(self, name: str, task: Task) -> None:
        if not self._idle:
            self._idle.append(_Process(self._free.popleft()))
            self._all.append(self._idle[-1])
        member = self._idle.pop()
        member.stage.value = b""
        self._busy[member.pipe] = member, name
        with suppress(BrokenPipeError):  # the process is gone, which its pipe will tell
            member.pipe.send(task)


class _Process:
    """A worker's process, the pipe to it, and what it has done of its task."""

    def __init__(self, worker: Worker) -> None:
        context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
        self.worker = worker
        self.done: Any = context.RawValue("d", 0.0)  # written by the worker alone: no lock that it could die with
        self.stage: Any = context.RawArray("c", STAGE_BYTES)
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, self.done, self.stage, worker.device, os.getpid()))
        with _inherited(worker):
            self.process.start()
        theirs.close()

    def outcome(self) -> Failure | None:
        """How its task ended, once the pipe can be read."""
        try:
            failure: Failure | None = self.pipe.recv()
        except (EOFError, ConnectionResetError):
            self.leave()
            code = self.process.exitcode or 0
            how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
            memory = " (out of memory?)" if code == -signal.SIGKILL else ""
            return Failure("Killed", f"its process was ended {how}{memory}")
        return failure

    def leave(self) -> None:
        """Wait for it to go: it does so when its pipe is closed."""
        self.pipe.close()
        self.process.join()


@contextmanager
def _inherited(worker: Worker) -> Iterator[None]:
    """Here and now, the cores and the GPU of a worker: a process that starts meanwhile has them from its first line on,
    before it imports what looks for GPUs or starts threads."""
    cores, gpus = usable_cores(), os.environ.get("CUDA_VISIBLE_DEVICES")
    pinned = worker.cores if hasattr(os, "sched_setaffinity") else None
    try:
        if pinned:
            os.sched_setaffinity(0, pinned)
        if worker.gpu is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = worker.gpu
        yield
    finally:
        if pinned:
            os.sched_setaffinity(0, cores)
        if worker.gpu is not None:
            del os.environ["CUDA_VISIBLE_DEVICES"]
            os.environ.update({} if gpus is None else {"CUDA_VISIBLE_DEVICES": gpus})


def _serve(pipe: Connection, done: Any, stage: Any, device: str, parent: int) -> None:
    """A worker's life: one thread of torch's, so that results do not depend on how many workers there are."""
    torch.set_num_threads(1)
    threading.Thread(target=_leave_with, args=(parent,), daemon=True).start()

    def advance(count: float) -> None:
        done.value += count
        stage.value = b""

    def say(name: str, of: int, total: int, unit: str) -> None:
        line = f"{name}: {of:,} of {total:,} {unit}" if total else f"{name}: {of:,} {unit}"
        stage.value = line.encode()[: STAGE_BYTES - 1]

    with terminated_as_interrupted(), showing(say):
        try:
            while True:
                pipe.send(attempt(pipe.recv(), device, advance))
        except (EOFError, OSError, KeyboardInterrupt):
            pass  # no more work, or asked to stop: what is finished lies on disk


def attempt(task: Task, device: str, advance: Advance) -> Failure | None:
    """Do a task; what went wrong comes back as words. ADALN_TRACEBACK=1 shows where."""
    try:
        task(device, advance)
    except Exception as error:
        if os.environ.get("ADALN_TRACEBACK"):
            traceback.print_exc()
        kind = type(error).__name__
        return Failure(kind, str(error) if isinstance(error, ValueError) else f"{kind}: {error}")
    return None


def _leave_with(parent: int) -> None:
    """Go when the process that started the workers is gone; one that trains saves first."""
    while True:
        time.sleep(0.5)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGTERM)


@contextmanager
def terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM means what Ctrl-C means."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
