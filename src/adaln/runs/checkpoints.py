"""Checkpoints on disk: a folder of safetensors files that is either complete or not there.

Nothing here is ever unpickled.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from adaln.dtensor import fill
from adaln.tensors import is_whole, misfit


def steps_on_disk(root: Path, files: tuple[str, ...]) -> list[int]:
    """Steps of the complete checkpoints under `root`, ascending; each must hold all `files` whole."""
    if not root.is_dir():
        return []
    found = [folder for folder in root.iterdir() if folder.is_dir() and folder.name.isdigit()]
    return sorted(int(folder.name) for folder in found if all(is_whole(folder / file) for file in files))


def load_into(module: torch.nn.Module, tensors: Mapping[str, Tensor], origin: str) -> None:
    """Load a state dict strictly; `ValueError` lists what is missing, unexpected or of another shape."""
    own = module.state_dict()
    wrong = misfit(own, tensors)
    if wrong:
        raise ValueError(f"{origin} does not fit the model: {wrong}")
    for name, tensor in own.items():
        fill(tensor, tensors[name])
