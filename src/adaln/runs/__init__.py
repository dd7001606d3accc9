"""Run directories: config, manifest, metrics, checkpoints."""

from adaln.runs.checkpoints import load_into as load_into
from adaln.runs.fetched import local as local
from adaln.runs.fetched import local_or_data as local_or_data
from adaln.runs.folders import beside as beside
from adaln.runs.folders import is_run as is_run
from adaln.runs.folders import run_folder as run_folder
from adaln.runs.run import Run as Run
from adaln.runs.run import append_record as append_record
from adaln.runs.run import drop_from as drop_from
from adaln.runs.run import open_run as open_run
from adaln.runs.run import read_records as read_records
