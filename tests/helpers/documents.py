"""The commands of README.md and docs/*.md."""

import re
import shlex
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"```sh\n(.*?)```", re.DOTALL)


@cache
def commands() -> list[tuple[str, list[str]]]:
    """Verb and further words of each, without what stands before `adaln` or behind `#`."""
    found = []
    for file in (ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))):
        for block in BLOCK.findall(file.read_text(encoding="utf-8")):
            for line in block.replace("\\\n", " ").splitlines():
                for part in re.split(r";|\|\||&&|\|", line.partition(" #")[0]):
                    match = re.search(r"(?:^|\s)adaln ([a-z-]+)(.*)", part)
                    if match and not part.lstrip().startswith("#"):
                        found.append((match[1], shlex.split(match[2])))
    return found
