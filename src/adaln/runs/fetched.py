"""Runs and weights by name: a path, or what is fetched from the hub of Hugging Face."""

import json
import shutil
from pathlib import Path
from typing import Any

from adaln.codec import canonical_json
from adaln.files import atomic_folder, reading
from adaln.hub import PREFIX, Fetched, NotThere, fetch, hub_name
from adaln.runs.folders import is_run

ROOT = Path("runs")


def local(name: Path | str, root: Path = ROOT) -> Path:
    """Where it lies: a path as it is, `hf:ORG/NAME` in the hub's cache, a run of the hub as one of ours in `root`.

    Weights of such a run are links into the cache; its own folder takes what commands add to it.
    """
    if not str(name).startswith(PREFIX):
        return Path(name)
    fetched = fetch(hub_name(str(name)))
    return _as_run(fetched, root) if is_run(fetched.path) else fetched.path


def local_or_data(name: str) -> str:
    """As `local`; where the hub has no model of that name, the name, which may be a data set's."""
    try:
        return str(local(name)) if name.startswith(PREFIX) else name
    except NotThere:
        return name


def _as_run(fetched: Fetched, root: Path) -> Path:
    name = f"{fetched.name.repo}/{fetched.name.inside}".strip("/").replace("/", "--")
    path = root / f"{name}-{str(fetched.name.revision)[:10]}"
    try:
        if not is_run(path):
            with atomic_folder(path) as folder:
                _lay_out(fetched, folder)
    except OSError:
        if not is_run(path):  # else another process was there first
            raise
    return path


def _lay_out(fetched: Fetched, folder: Path) -> None:
    from adaln.tensor_files import save_tensors

    for file in sorted(fetched.path.rglob("*")):
        copy = folder / file.relative_to(fetched.path)
        if file.is_dir():
            copy.mkdir(exist_ok=True)
        elif file.suffix == ".safetensors":
            copy.symlink_to(file.resolve())
        else:
            shutil.copyfile(file, copy)
    for checkpoint in folder.glob("checkpoints/*"):
        if not (checkpoint / "training.safetensors").exists():  # the optimiser's state is not pushed
            save_tensors(checkpoint / "training.safetensors", {}, {"format": "pt"})
    manifest = folder / "manifest.json"
    with reading(manifest, "the manifest of a run"):
        row: dict[str, Any] = json.loads(manifest.read_text(encoding="utf-8"))
    of = {"repo": fetched.name.repo, "commit": fetched.name.revision}
    manifest.write_text(canonical_json({**row, "hub": of}), encoding="utf-8")
