"""`adaln` again and again, imported once: a JSON line in, a forked child that is the command, its exit code out.

A line holds `words`, `environment`, and `out` and `err`, the files for what the command prints. Besides, if wanted:
`file_bytes`, the largest file that it may write; and when it is killed (SIGKILL): after `seconds`, or right before the
`change`-th time that it opens a file for writing, makes, renames or removes something under the folder `where`. Or it
holds `preload`, a module to import once for all commands to come.

There is one study more, `smallest` at the scale `smallest`. Unless a study is given `--jobs`, its runs are done by the
command itself, one after the other: workers take seconds to start.
"""

import json
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

import torch

from adaln.cli import studying
from adaln.cli.commands import VERBS, main
from adaln.cli.studying import Launching, launched
from adaln.registry import Registry
from adaln.studies import registry
from adaln.studies.run.workers import Launcher
from helpers.in_process import InProcess
from helpers.smallest import PLAN

CHANGES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree", "os.truncate")
IMPORTED_ON_THE_WAY = ("torch._dynamo", "matplotlib.backends.backend_agg")
"""By commands, not by their modules: it takes longer than what they are killed at."""


@contextmanager
def launched_here(options: Launching) -> Iterator[Launcher]:
    if options.jobs:
        with launched(options) as launcher:
            yield launcher
    else:
        yield InProcess()


def kill_at_change(where: str, number: int) -> None:
    """End this process right before it makes the change of that number under `where`."""
    seen = 0

    def watch(event: str, arguments: tuple) -> None:
        nonlocal seen
        writes = event in CHANGES or (event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR))
        if writes and str(arguments[0]).startswith(where):
            seen += 1
            if seen == number:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)


def become(job: dict) -> None:
    """Be the command, in a process of its own."""
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for descriptor, file in ((1, job["out"]), (2, job["err"])):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    os.environ.clear()
    os.environ.update(job["environment"])
    if job.get("file_bytes"):
        resource.setrlimit(resource.RLIMIT_FSIZE, (job["file_bytes"], job["file_bytes"]))
    if job.get("change"):
        kill_at_change(job["where"], job["change"])
    os._exit(exit_code(job["words"]))


def exit_code(words: list[str]) -> int:
    """Of the command, without the seconds that an interpreter as large as this one needs to go."""
    try:
        main(words)
        return 0
    except SystemExit as stop:
        return int(stop.code or 0)
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def ended(child: int, seconds: float | None) -> int:
    """The exit code of a child, minus the signal if one ended it; it is killed after so many seconds."""
    deadline = time.monotonic() + seconds if seconds else float("inf")
    while True:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            deadline = float("inf")
        time.sleep(0.002)


def answer(what: object) -> None:
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


def serve() -> None:
    torch.set_num_threads(1)
    for module in (*(f"adaln.cli.{verb.module}" for verb in VERBS.values()), *IMPORTED_ON_THE_WAY):
        import_module(module)
    for module in (registry, studying):
        module.STUDIES = Registry("study", {PLAN.study.name: PLAN.study})
        module.SCALES = Registry("scale", {PLAN.scale.name: PLAN.scale})
    studying.launched = launched_here
    answer("ready")
    for line in sys.stdin:
        job = json.loads(line)
        if "preload" in job:
            import_module(job["preload"])
            answer("ready")
        elif child := os.fork():
            answer(ended(child, job.get("seconds")))
        else:
            become(job)
    os._exit(0)


if __name__ == "__main__":
    serve()
