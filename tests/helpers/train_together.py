"""One of several processes that train runs, one after the other: JOBS, a JSON list of what `work` takes."""

import json
import os
import signal
import sys
from typing import Any

from adaln.analysis.recorder import Recorder
from adaln.execution import Execution
from adaln.parallel import group_of_torchrun, own, rank
from adaln.runs import Run
from adaln.training import Stopped, train


def main(jobs: str) -> None:
    """Each process says how a run ended that did not end well, and goes on to the next."""
    with group_of_torchrun():
        for job in json.loads(jobs):
            try:
                work(**job)
            except (ValueError, Stopped) as error:
                line = [rank(), job["path"], f"{type(error).__name__}: {error}"]
                sys.stdout.write(f"{json.dumps(line)}\n")
                sys.stdout.flush()


def work(path: str, execution: dict[str, Any], record: bool = False, **events: list[int]) -> None:
    """Train the run of a folder, and do to one process, at one step, what `events` say: see `Events`."""
    run = Run.open(path)
    hooks = [Recorder(run.path / "analysis" / "roles.jsonl")] if record else []
    train(run, [Events(run, events), *hooks], Execution(**execution))


class Events:
    """`{"terminate": [rank, step]}`, or `poison`, or `{"kill": [rank, step, start]}`, start being 0 until torchrun has
    started the processes again."""

    def __init__(self, run: Run, events: dict[str, list[int]]) -> None:
        self.run, self.events = run, events

    def __call__(self, step: int, model: Any) -> None:
        here = [rank(), step]
        if self.events.get("terminate") == here:
            os.kill(os.getpid(), signal.SIGTERM)
        if self.events.get("kill") == [*here, int(os.environ["TORCHELASTIC_RESTART_COUNT"])]:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.events.get("poison") == here:
            own(model.blocks[0].attn.qkv.weight.grad)[0, 0] = float("nan")


if __name__ == "__main__":
    main(*sys.argv[1:])
