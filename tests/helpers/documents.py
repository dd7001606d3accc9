"""The commands of README.md and docs/*.md."""

import re
import shlex
from functools import cache
from pathlib import Path

from adaln.cli.commands import VERBS

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"```sh\n(.*?)```|((?:^    .*\n)+)", re.DOTALL | re.MULTILINE)


@cache
def commands(pattern: str = "docs/*.md") -> list[tuple[str, list[str]]]:
    """Verb and further words of each of README.md and of what fits the pattern, without what stands before `adaln` or
    behind `#`."""
    found = []
    for file in (ROOT / "README.md", *sorted(ROOT.glob(pattern))):
        for block in map("".join, BLOCK.findall(file.read_text(encoding="utf-8"))):
            for line in block.replace("\\\n", " ").splitlines():
                for part in re.split(r";|\|\||&&|\|", line.partition(" #")[0]):
                    match = re.search(r"(?:^|\s)adaln ([a-z-]+)(.*)", part)
                    if match and match[1] in VERBS and not part.lstrip().startswith("#") and "..." not in part:
                        found.append((match[1], shlex.split(match[2])))
    return found
