"""The command line, called in this process."""

import json
from typing import Any

import pytest

from adaln.cli import main

SMALL = [
    *("--model.hidden-size", "16", "--model.depth", "2", "--model.num-heads", "2", "--batch-size", "8"),
    *("--steps", "4", "--log-every", "2", "--device", "cpu"),
]
"""train digits ...: four steps of two narrow blocks."""


def run(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """Standard output of a command that succeeds."""
    main([str(word) for word in words])
    return capsys.readouterr().out


def data(capsys: pytest.CaptureFixture[str], *words: object) -> Any:
    """What a command that succeeds prints for machines."""
    return json.loads(run(capsys, *words, "--json"))


def fails(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """The one line on standard error of a command that exits with 2."""
    with pytest.raises(SystemExit) as stop:
        main([str(word) for word in words])
    captured = capsys.readouterr()
    assert (stop.value.code, captured.out) == (2, "")
    lines = captured.err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("adaln: error: "), captured.err
    return lines[0]
