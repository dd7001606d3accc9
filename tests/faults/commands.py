"""The command line as a user sees it: exit codes and lines, of commands that are killed or find no space."""

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from signal import SIGKILL
from typing import Any

SERVER = Path(__file__).with_name("serve_commands.py")


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    """Exit code; minus the signal that ended it."""
    out: str
    err: str
    seconds: float

    @property
    def is_killed(self) -> bool:
        return self.code == -SIGKILL

    def done(self) -> "Ended":
        """Itself, having ended well."""
        assert self.code == 0, self
        return self

    def refused(self) -> str:
        """The one line for the user of a command that ended with 2."""
        assert self.code == 2, self
        *progress, line = self.err.splitlines()
        assert line.startswith("adaln: error: ") and not any("error" in other.lower() for other in progress), self.err
        return line.removeprefix("adaln: error: ")


class Commands:
    """Runs `adaln WORDS` in children of one process that has imported it."""

    def __init__(self, folder: Path) -> None:
        self.out, self.err = folder / "out", folder / "err"
        self.server = subprocess.Popen([sys.executable, str(SERVER)], stdin=-1, stdout=-1, text=True)
        assert self.server.stdout.readline() == "ready\n"

    def __call__(self, *words: object, **wanted: Any) -> Ended:
        """How `adaln WORDS` ended; `seconds`, `change` and `where`, `file_bytes` as in the server."""
        job = {"words": [str(word) for word in words], "out": str(self.out), "err": str(self.err), **wanted}
        start = time.monotonic()
        self.server.stdin.write(json.dumps({**job, "environment": dict(os.environ)}) + "\n")
        self.server.stdin.flush()
        code = int(self.server.stdout.readline())
        return Ended(code, self.out.read_text(), self.err.read_text(), time.monotonic() - start)

    def close(self) -> None:
        self.server.stdin.close()
        self.server.stdout.close()
        self.server.wait()

    def killed_until_done(
        self, words: list[object], where: Path, look: Callable[[], None], *, took: float, changes: int, patience: int
    ) -> int:
        """Run a command that is killed at random moments until, one time, it ends; `look` is called after each kill.

        By turns it is killed in the midst of what it does and right before a change under `where` (a file is opened,
        renamed or removed). `took` and `changes` are what all of it takes; moments are drawn from a small part of them
        at first, and from more than all after `patience` kills. Returns how often it was killed.
        """
        rng = random.Random(str(words[0]))
        for kills in range(100 * patience):
            part = rng.random() * (kills + 3) / patience
            moment = {"seconds": part * took} if kills % 2 else {"change": 1 + round(part * changes)}
            ended = self(*words, where=str(where), **moment)
            if not ended.is_killed:
                ended.done()
                return kills
            look()
        raise AssertionError("it never ended")
