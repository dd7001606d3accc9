"""Tensors by name in files: written, described, opened whoever wrote them, and held against a network.

No code from a file is ever run: safetensors, and what `torch.save` wrote as far as it is weights only.
"""

from adaln.tensor_files.content import check_alone, what_is, what_text
from adaln.tensor_files.names import misfit, unwrapped
from adaln.tensor_files.numpy_files import Npz, load_npy
from adaln.tensor_files.opening import OpenedWeights, open_adapter, open_weights
from adaln.tensor_files.pickles import load_pickle
from adaln.tensor_files.safetensors_files import (
    DTYPES,
    TensorFile,
    is_whole,
    load_tensors,
    read_header,
    save_tensors,
    shapes,
)
from adaln.tensor_files.sets import WeightSet

__all__ = [
    "DTYPES",
    "Npz",
    "OpenedWeights",
    "TensorFile",
    "WeightSet",
    "check_alone",
    "is_whole",
    "load_npy",
    "load_pickle",
    "load_tensors",
    "misfit",
    "open_adapter",
    "open_weights",
    "read_header",
    "save_tensors",
    "shapes",
    "unwrapped",
    "what_is",
    "what_text",
]
