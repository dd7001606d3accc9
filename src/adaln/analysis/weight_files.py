"""Anyone's weights by their own names, memory-mapped: safetensors, .pt, diffusers folders. Runs no code from a file."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from torch import Tensor

from adaln.analysis.descriptions import TensorFile
from adaln.models.pickles import Kind, choose_set, load_pickle
from adaln.registry import nearest

_PICKLED = (".pt", ".pth", ".bin", ".ckpt")


def open_weights(path: Path, kind: Kind | None = None) -> Mapping[str, Tensor]:
    """The tensors of a `.safetensors` or `.pt` file, or of a diffusers folder (its safetensors files only).

    Of a training checkpoint ({"model": ..., "ema": ..., ...}) the set `kind`, by default the averaged weights if they
    are there. Raises `ValueError` in one line for what is missing, damaged, foreign, or holds code.
    """
    if path.is_dir():
        return _without_sets(_open_folder(path), path, kind)
    if not path.is_file():
        others = [str(other) for other in path.parent.glob("*")] if path.parent.is_dir() else []
        raise ValueError(f"weights {str(path)!r} do not exist{nearest(str(path), others)}")
    if path.suffix == ".safetensors":
        return _without_sets(TensorFile(path), path, kind)
    if path.suffix not in _PICKLED:
        raise ValueError(f"weights {str(path)!r}: expected a file named {', '.join(('.safetensors', *_PICKLED))}")
    return choose_set(load_pickle(path), path, kind)[0]


class _Shards(Mapping[str, Tensor]):
    """Several files as one mapping; a tensor is in memory for as long as it is held."""

    def __init__(self, files: list[TensorFile]) -> None:
        self._file_of = {name: file for file in files for name in file}

    def __getitem__(self, name: str) -> Tensor:
        return self._file_of[name][name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._file_of)

    def __len__(self) -> int:
        return len(self._file_of)


def _open_folder(folder: Path) -> Mapping[str, Tensor]:
    for inside in (folder, folder / "transformer"):
        if not (inside / "config.json").is_file():
            continue
        for index in sorted(inside.glob("*.safetensors.index.json")):
            names = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
            return _Shards([TensorFile(inside / Path(name).name) for name in sorted(set(names))])
        files = sorted(inside.glob("*.safetensors"), key=lambda file: len(file.name))  # variants have longer names
        if files:
            return TensorFile(files[0])
    raise ValueError(f"folder {str(folder)!r} is no run and no diffusers model (config.json and .safetensors files)")


def _without_sets(tensors: Mapping[str, Tensor], path: Path, kind: Kind | None) -> Mapping[str, Tensor]:
    if kind is not None:
        raise ValueError(f"{str(path)!r} holds one set of weights; {kind!r} is for runs and training checkpoints")
    return tensors
