"""Checkpoints on disk: a folder of safetensors files that is either complete or not there.

Nothing here is ever unpickled.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from adaln.dtensor import fill


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write one safetensors file; `OSError` when the disk is full."""
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    try:
        save_file(contiguous, path, dict(metadata or {}))
    except SafetensorError as error:
        raise OSError(f"cannot write {path}: {error}") from None


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file (memory-mapped); `ValueError` in one line where it is missing, cut short or foreign."""
    if not path.is_file():
        raise ValueError(f"checkpoint file {str(path)!r} does not exist")
    if not is_whole(path):
        raise ValueError(f"{str(path)!r} is not a complete safetensors file (truncated, or of another format)")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{str(path)!r} cannot be read as safetensors: {error}") from None


def is_whole(path: Path) -> bool:
    """Whether a safetensors file has a sound header and every byte that it promises; reads the header only."""
    try:
        with safe_open(path, "pt"):
            return True
    except (OSError, RuntimeError, SafetensorError):  # torch opens the file once more: it may be gone by then
        return False


def steps_on_disk(root: Path, files: tuple[str, ...]) -> list[int]:
    """Steps of the complete checkpoints under `root`, ascending; each must hold all `files` whole."""
    if not root.is_dir():
        return []
    found = [folder for folder in root.iterdir() if folder.is_dir() and folder.name.isdigit()]
    return sorted(int(folder.name) for folder in found if all(is_whole(folder / file) for file in files))


def load_into(module: torch.nn.Module, tensors: Mapping[str, Tensor], origin: str) -> None:
    """Load a state dict strictly; `ValueError` lists what is missing, unexpected or of another shape."""
    own = module.state_dict()
    missing = sorted(own.keys() - tensors.keys())
    foreign = sorted(tensors.keys() - own.keys())
    shapes = [name for name in own.keys() & tensors.keys() if own[name].shape != tensors[name].shape]
    if missing or foreign or shapes:
        parts = (("missing", missing), ("unexpected", foreign), ("of another shape", sorted(shapes)))
        told = "; ".join(f"{len(names)} {word}: {', '.join(names[:3])}" for word, names in parts if names)
        raise ValueError(f"{origin} does not fit the model: {told}")
    for name, tensor in own.items():
        fill(tensor, tensors[name])
