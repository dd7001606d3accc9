"""Runs that several processes of torchrun train."""

import json
import subprocess
import sys

from adaln.runs import read_records


def together(world, run, restarts=0, **wanted):
    """Train with `world` processes, and what is `wanted` to happen (see `helpers.train_together`)."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(world)]
    words = [
        *torchrun,
        "--max-restarts",
        str(restarts),
        "-m",
        "helpers.train_together",
        str(run.path),
        json.dumps(wanted),
    ]
    return subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)


def losses(run):
    rows = read_records(run.path / "metrics.jsonl")
    assert [row["step"] for row in rows] == list(range(1, len(rows) + 1))  # one process writes, no line is missing
    return [row["loss"] for row in rows]
