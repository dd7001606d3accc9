"""JSON lines: appended while work goes on, cut back when it is resumed."""

import json
from pathlib import Path
from typing import Any

from adaln.files import write_atomically


def read_records(path: Path) -> list[dict[str, Any]]:
    """The complete lines of a .jsonl file; a last line torn by a kill is left out; none where there is no file."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines[:-1] if line]  # what follows the last newline is torn


def drop_from(path: Path, step: int) -> None:
    """Drop records at or past `step`: they will be written again."""
    if path.exists():
        kept = [json.dumps(row) for row in read_records(path) if row["step"] < step]
        write_atomically(path, "".join(f"{line}\n" for line in kept))
