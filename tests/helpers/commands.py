"""The command line as a user sees it: exit codes and lines, of commands that are killed or find no space."""

import itertools
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from signal import SIGKILL
from typing import Any

from helpers.smallest_commands import check_whole, different, temporaries

SERVER = [sys.executable, "-m", "helpers.serve_commands"]
PATIENCE = 2.5
"""Times the kills: after so many of them moments are drawn from all that a command does."""
Times = dict[Path, int]
Look = Callable[[Times], Times]
"""Called with what was finished at the last kill, and when; returns the same of this one."""


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

    def __init__(self, folder: Path, cache: Path) -> None:
        """`folder` for what they print, `cache` for what they keep for the user."""
        self.out, self.err, self.cache = folder / "out", folder / "err", cache
        self.server = subprocess.Popen(SERVER, stdin=-1, stdout=-1, text=True)
        assert self.server.stdout.readline() == "ready\n"

    def __call__(self, *words: object, **wanted: Any) -> Ended:
        """How `adaln WORDS` ended; `seconds`, `change` and `where`, `file_bytes` as in the server."""
        job = {"words": [str(word) for word in words], "out": str(self.out), "err": str(self.err), **wanted}
        start = time.monotonic()
        environment = os.environ | {"ADALN_CACHE": str(self.cache), "GIT_DIR": os.devnull}  # pages name the commit
        code = int(self._ask({**job, "environment": environment}))
        return Ended(code, self.out.read_text(), self.err.read_text(), time.monotonic() - start)

    def preload(self, module: str) -> None:
        """Import once what commands import on their way, where that takes longer than what they are killed at."""
        assert self._ask({"preload": module}) == "ready\n"

    def _ask(self, job: dict[str, Any]) -> str:
        self.server.stdin.write(json.dumps(job) + "\n")
        self.server.stdin.flush()
        return self.server.stdout.readline()

    def close(self) -> None:
        self.server.stdin.close()
        self.server.stdout.close()
        self.server.wait()

    def killed_again_and_again(
        self, words: list[object], folder: Path, whole: Path, look: Look, changes: int, kills: int
    ) -> None:
        """A command that is killed at `kills` random moments ends, one time, with the contents of `whole` in `folder`.

        By turns it is killed in the midst of what it does and right before a change (a file is opened, renamed or
        removed), of which it makes about so many. Moments are drawn from a small part of these and of the time that it
        takes, and from a larger one after each kill. Where it ends after fewer kills it begins anew, until there were
        as many. After each kill what has its name is complete, and `look` is called.
        """
        took = self(*words).done().seconds
        rng, done = random.Random(str(words[0])), 0
        while done < kills:
            shutil.rmtree(folder)
            found: Times = {}
            for turn in itertools.count():
                part = rng.random() * (turn + 3) / (PATIENCE * kills)
                moment = {"seconds": part * took} if turn % 2 else {"change": 1 + round(part * changes)}
                ended = self(*words, where=str(folder), **moment)
                if not ended.is_killed:
                    break
                check_whole(folder)
                found = look(found)
            ended.done()
            done += turn
            assert not (unlike := different(folder, whole) + temporaries(folder)), unlike
