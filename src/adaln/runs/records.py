"""JSON lines: appended while work goes on, cut back when it is resumed."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adaln.files import naming, reading, remove_temporaries, write_atomically


def read_records(path: Path) -> list[dict[str, Any]]:
    """The complete lines of a .jsonl file; a last line torn by a kill is left out; none where there is no file.

    Raises `ValueError` naming the first line that is not the record of a step.
    """
    if not path.exists():
        return []
    with reading(path, "text"):
        lines = path.read_text(encoding="utf-8").split("\n")
    records = []
    for number, line in enumerate(lines[:-1], 1):  # what follows the last newline is torn
        if line:
            with reading(path, f"whole, see line {number}"):
                records.append(json.loads(line))
                int(records[-1]["step"])
    return records


def append_record(path: Path, row: Mapping[str, Any]) -> None:
    """Add a line to a .jsonl file."""
    with naming(path), path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row, allow_nan=False) + "\n")


def drop_from(path: Path, step: int) -> None:
    """Drop records at or past `step`, which will be written again, and what killed writers of the file have left."""
    remove_temporaries(path.parent, path.name)
    if path.exists():
        kept = [json.dumps(row) for row in read_records(path) if row["step"] < step]
        write_atomically(path, "".join(f"{line}\n" for line in kept))
