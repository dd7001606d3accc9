"""Run directories: config, manifest, metrics, checkpoints."""

from adaln.runs.checkpoints import load_into
from adaln.runs.run import Run, append_record, drop_from, is_run, open_run, read_records

__all__ = ["Run", "append_record", "drop_from", "is_run", "load_into", "open_run", "read_records"]
