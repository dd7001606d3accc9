"""Run directories: config, manifest, metrics, checkpoints."""

from adaln.runs.checkpoints import load_into
from adaln.runs.directory import Run, is_run
from adaln.runs.records import append_record, drop_from, read_records
from adaln.runs.state import NonFinite, TrainState

__all__ = [
    "NonFinite",
    "Run",
    "TrainState",
    "append_record",
    "drop_from",
    "is_run",
    "load_into",
    "read_records",
]
