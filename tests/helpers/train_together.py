"""One of several processes that train a run: PATH [JSON], JSON being what is to happen to whom, and the execution."""

import json
import os
import signal
import sys

from adaln.analysis.recorder import Recorder
from adaln.dtensor import own
from adaln.execution import Execution
from adaln.parallel import group_of_torchrun, rank
from adaln.runs import Run
from adaln.training import train


def main(path: str, told: str = "{}") -> None:
    wanted = json.loads(told)
    with group_of_torchrun():
        run = Run.open(path)
        hooks = [Recorder(run.path / "analysis" / "roles.jsonl")] if wanted.get("record") else []
        train(run, [Events(run, wanted), *hooks], Execution(**wanted.get("execution", {})))


class Events:
    """Does to one process, at one step, what a test wants: `{"terminate": [rank, step]}`, or `kill`, or `poison`; what
    torchrun starts again is not killed again.

    `seen`: a folder for what each process learned from at the first step.
    """

    def __init__(self, run: Run, wanted: dict) -> None:
        self.run, self.wanted = run, wanted

    def __call__(self, step: int, model) -> None:
        here = [rank(), step]
        if self.wanted.get("terminate") == here:
            os.kill(os.getpid(), signal.SIGTERM)
        if self.wanted.get("kill") == here and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.wanted.get("poison") == here:
            own(model.blocks[0].attn.qkv.weight.grad)[0, 0] = float("nan")


if __name__ == "__main__":
    main(*sys.argv[1:])
