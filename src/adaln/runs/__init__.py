"""Run directories: config, manifest, metrics, checkpoints."""

from adaln.runs.checkpoints import load_into
from adaln.runs.records import append_record, drop_from, read_records
from adaln.runs.run import Run, is_run, open_run

__all__ = ["Run", "append_record", "drop_from", "is_run", "load_into", "open_run", "read_records"]
