"""Pieces of work for workers to do: they leave notes of where they were done."""

import json
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from adaln.progress import progress


def started_with_cuda_hidden():
    """What the process's own environment block says, which only its start decides."""
    block = Path("/proc/self/environ").read_bytes().split(b"\0")
    return [row.decode() for row in block if row.startswith(b"CUDA_VISIBLE_DEVICES=")]


@dataclass(frozen=True)
class Note:
    """Writes what it sees into a folder."""

    folder: Path
    name: str
    after: Path | None = None
    """A file to wait for."""

    def __call__(self, device, tell):
        while self.after and not self.after.exists():
            time.sleep(0.1)
        seen = {
            "device": device,
            "process": os.getpid(),
            "cores": sorted(os.sched_getaffinity(0)),
            "gpus": started_with_cuda_hidden(),
            "threads": sys.modules["torch"].get_num_threads(),
        }
        (self.folder / f"{self.name}.json").write_text(json.dumps(seen))
        tell(3)
        tell(4)


def refuse(device, tell):
    tell(1)
    raise ValueError("expected something else")


def stumble(device, tell):
    {}["missing"]


def die(device, tell):
    os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class Wait:
    """Works until it is stopped, and says that it was."""

    folder: Path

    def __call__(self, device, tell):
        (self.folder / "began").touch()
        try:
            time.sleep(600)
        except KeyboardInterrupt:
            (self.folder / "stopped").touch()
            raise


@dataclass(frozen=True)
class Say:
    """Says how far it is, and goes on once somebody has heard it."""

    heard: Path
    """A pipe of the file system."""

    def __call__(self, device, tell):
        progress("training the classifier", 3, 400, "steps")
        self.heard.read_text()
