"""What the battery runs: the smallest commands of each verb, and what must be true of what they leave on disk."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import load_file

NETWORK = ["--model.hidden-size", 16, "--model.depth", 2, "--model.num-heads", 2, "--batch-size", 8]
TRAIN = ["train", "digits", *NETWORK, "--scheme", "adaln-mix", "--steps", 12, "--checkpoint-every", 4]
TRAIN += ["--log-every", 1, "--keep-checkpoints", 0, "--device", "cpu", "--out"]
"""RUN: twelve steps, three checkpoints."""
ENCODE = ["--autoencoder", "none", "--shard-rows", 64]
"""encode digits OUT ...: 29 shards."""
SAMPLE = ["--num-images", 24, "--batch-size", 2, "--sampler.solver", "ddim", "--sampler.steps", 5, "--device", "cpu"]
"""sample RUN ... --out OUT.npz: twelve parts."""
STUDY = ["study", "smallest", "--scale", "smallest", "--root"]
"""ROOT: four runs of eight steps, two checkpoints and two scores each."""
CHECKPOINT = {"model.safetensors", "ema.safetensors", "training.safetensors"}


def contents(folder: Path) -> dict[str, bytes]:
    """What all files hold by name: the tensors of those that have a header in any order, else the bytes.

    Left out are locks, manifests, which tell of sessions, and how fast steps were.
    """
    files = (file for file in folder.rglob("*") if file.is_file())
    apart = ("manifest.json", "speed.jsonl")
    wanted = (file for file in files if not file.name.endswith(".lock") and file.name not in apart)
    return {str(file.relative_to(folder)): content(file) for file in wanted}


def different(folder: Path, other: Path) -> list[str]:
    """Names of the files that are in one of the two alone, or whose contents differ."""
    ours, theirs = contents(folder), contents(other)
    return sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))


def content(file: Path) -> bytes:
    if file.suffix != ".safetensors":
        return file.read_bytes()
    rows = (
        f"{name} {row.dtype} {row.shape} ".encode() + row.tobytes() for name, row in sorted(load_file(file).items())
    )
    return hashlib.sha256(b"".join(rows)).digest()


def temporaries(folder: Path) -> list[str]:
    """What was being written, and never got its name."""
    return [str(path.relative_to(folder)) for path in folder.rglob(".tmp-*")]


def check_whole(folder: Path) -> None:
    """Every file and checkpoint that has its name is complete; of records, all but what follows the last line's end."""
    for path in folder.rglob("*"):
        if ".tmp-" in str(path):
            continue
        if path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix == ".jsonl":
            for line in path.read_text().split("\n")[:-1]:
                json.loads(line)
        elif path.suffix == ".safetensors":
            with safe_open(path, "np") as tensors:
                assert tensors.keys()
        elif path.suffix in (".npy", ".npz"):
            assert np.load(path) is not None
        elif path.parent.name == "checkpoints":
            assert {file.name for file in path.iterdir()} == CHECKPOINT, path


def newest(run: Path) -> int:
    """Step of the newest checkpoint, 0 where there is none."""
    return max((int(folder.name) for folder in (run / "checkpoints").glob("0*")), default=0)


def times(*files: Iterable[Path]) -> dict[Path, int]:
    """When these were written."""
    return {file: file.stat().st_mtime_ns for some in files for file in some}


def kept(before: dict[Path, int], now: dict[Path, int]) -> dict[Path, int]:
    """What is there now, and nothing that was there before has been lost or made again."""
    assert before.items() <= now.items()
    return now


def finished(root: Path) -> dict[Path, int]:
    """What no command of a study is to do again, and when it was written."""
    return times(*(root.glob(f"*/{kind}") for kind in ("checkpoints/0*", "scores/*.npz", "scores/*.scores.json")))
