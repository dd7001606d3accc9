"""Anyone's weights by their own names, memory-mapped: safetensors, .pt, diffusers folders. Runs no code from a file."""

import json
import pickle
from argparse import Namespace
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from adaln.analysis.descriptions import TensorFile
from adaln.registry import nearest

Kind = Literal["ema", "model"]
_SETS: Mapping[Kind, tuple[str, ...]] = {
    "ema": ("ema", "model_ema", "ema_state_dict"),
    "model": ("model", "state_dict", "module", "model_state_dict"),
}
"""What training checkpoints call their averaged and their raw weights."""
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
    return _chosen(_load_pickle(path), path, kind)


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


def _load_pickle(file: Path) -> Mapping[str, Any]:
    """`torch.load(weights_only=True)`; DiT's and SiT's checkpoints hold their command line, an inert Namespace."""
    with torch.serialization.safe_globals([Namespace]):
        try:
            loaded = _mapped(file)
        except pickle.UnpicklingError as error:
            why = str(error).split("\n")[0]
            raise ValueError(
                f"{str(file)!r} holds more than weights, and code is never run from a file: {why}"
            ) from None
        except (RuntimeError, EOFError, ValueError, KeyError):  # each a way in which torch meets foreign bytes
            raise ValueError(f"{str(file)!r} is no file that torch.save wrote, or a damaged one") from None
    if not isinstance(loaded, Mapping):
        raise ValueError(f"{str(file)!r} holds a {type(loaded).__name__}; expected tensors by name")
    return loaded


def _mapped(file: Path) -> Any:
    try:
        return torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except RuntimeError:  # torch before 1.6 wrote files that cannot be mapped
        return torch.load(file, map_location="cpu", weights_only=True)


def _chosen(loaded: Mapping[str, Any], file: Path, kind: Kind | None) -> Mapping[str, Tensor]:
    sets = {
        wanted: loaded[key] for wanted, keys in _SETS.items() for key in keys if isinstance(loaded.get(key), Mapping)
    }
    if kind is not None and kind not in sets:
        raise ValueError(f"{str(file)!r} has no set of weights {kind!r}; it has {' and '.join(sets) or 'one set only'}")
    found = (sets[kind] if kind else next(iter(sets.values()))) if sets else loaded
    return {name: value for name, value in found.items() if isinstance(value, Tensor)}
