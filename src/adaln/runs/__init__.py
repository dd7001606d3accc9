"""Run directories: config, manifest, metrics, checkpoints."""

from adaln.runs.checkpoints import is_whole, load_into, load_tensors, save_tensors
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
    "is_whole",
    "load_into",
    "load_tensors",
    "read_records",
    "save_tensors",
]
