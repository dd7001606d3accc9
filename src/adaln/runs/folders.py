"""Where a run lies: its folder is called by its name and a hash, and one data set is one run however it is spelled."""

import glob
import json
import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from adaln.codec import short_hash
from adaln.config import RunConfig, differing_fields, from_dict, to_dict
from adaln.data import absolute_path, canonical_path
from adaln.files import reading


def is_run(path: Path | str) -> bool:
    """Whether a folder is a run: its config.json has a scheme (that of a diffusers model has a `_class_name`).

    One that cannot be read is of a run if it speaks of a scheme or checkpoints lie beside it: `Run.open` says so.
    """
    file = Path(path or os.devnull) / "config.json"  # an empty name is not that of the working folder
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except OSError:
        return False
    except (ValueError, RecursionError):
        return b'"scheme"' in file.read_bytes() or (file.parent / "checkpoints").is_dir()
    return isinstance(config, dict) and "scheme" in config


MOST_COMPARED, MOST_NAMED = 50, 3
"""Runs of one name that are looked at, and differences that are named."""


def beside(folder: Path, config: RunConfig) -> str:
    """What a run differs in from the run of its name beside it that is most like it; "" where that is much, or none."""
    others = folder.parent.glob(f"{glob.escape(config.name)}-*/config.json")
    lines = []
    for file in sorted(others, key=lambda file: file.stat().st_mtime)[-MOST_COMPARED:]:
        with suppress(OSError, ValueError):  # gone meanwhile, another's, or damaged
            other = from_dict(json.loads(file.read_text(encoding="utf-8")))
            if differing := differing_fields(replace(other, steps=config.steps), config):
                lines.append((len(differing), f"differs from {file.parent} in {', '.join(differing)}"))
    return min(lines)[1] if lines and min(lines)[0] <= MOST_NAMED else ""


def config_hash(config: RunConfig) -> str:
    """Ten hex digits that identify what is computed.

    The name does not enter, the scheme's content does. Nor do `steps`: the first steps of a longer run are the shorter
    run, so both live in one folder and are trained once.
    """
    row = to_dict(config)
    del row["name"], row["steps"]
    return short_hash(row)


def run_folder(config: RunConfig, root: Path) -> Path:
    """`root/NAME-HASH`: of the run that is there under any spelling of its data's path, else of the canonical one."""
    place, canonical = absolute_path(config.data.path), spelled(config, canonical_path(config.data.path))
    folders = [root / f"{each.name}-{config_hash(each)}" for each in (config, canonical)]
    if there := [folder for folder in folders if (folder / "config.json").exists()]:
        return there[0]
    others = sorted(root.glob(f"{glob.escape(config.name)}-*")) if place else []
    return next((folder for folder in others if _is_of(folder, config, place)), folders[-1])


def spelled(config: RunConfig, path: str) -> RunConfig:
    """The same with another spelling of where its data lies."""
    return replace(config, data=replace(config.data, path=path))


def data_place(folder: Path, config: RunConfig) -> str | None:
    """Where the data of the run in a folder lies: where it lay when the run was begun or last went on, else where its
    config says, seen from the working folder; None of data that has a name only, or where nothing lies."""
    file = folder / "manifest.json"
    with reading(file, "the manifest of a run"):
        row = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        recorded = row.get("data", {}).get("path")
    return (absolute_path(recorded) if recorded else None) or absolute_path(config.data.path)


def _is_of(folder: Path, config: RunConfig, place: str | None) -> bool:
    """Whether in a folder lies the run of a config but for the spelling of where its data lies."""
    try:
        other = from_dict(json.loads((folder / "config.json").read_text(encoding="utf-8")))
        is_same = config_hash(spelled(other, config.data.path)) == config_hash(config)
        return is_same and data_place(folder, other) == place
    except (OSError, ValueError):  # another's, or damaged
        return False
