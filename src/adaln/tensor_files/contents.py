"""What a pickle held, by name: tensors, and what stands where tensors are expected and is not read."""

import re
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from adaln.tensor_files.pickles import Inert, module_tensors
from adaln.tensor_files.safetensors_files import DTYPES, FLOAT8
from adaln.tensor_files.sets import kind_of

WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")
"""How names of files of weights end."""
_MANY_BYTES = 1000
"""More than a text or a number takes: something that was saved by itself."""
_EXTRA_STATE = "_extra_state"
"""torch's word for what a module keeps beside its tensors, of any type."""


@dataclass(frozen=True, slots=True)
class Contents:
    """Everything by name that a file holds, dictionaries inside dictionaries with dots between their keys."""

    tensors: dict[str, Tensor] = field(default_factory=dict)
    levels: list[str] = field(default_factory=list)
    """Prefixes that were dictionaries of their own."""
    nameless: list[str] = field(default_factory=list)
    """Averaged weights that are lists, in an order that nothing tells."""
    unread: dict[str, str] = field(default_factory=dict)
    """Types by the names of tensors that are of a class, or of a layout, which is not read."""
    opaque: dict[str, str] = field(default_factory=dict)
    """Types by name of what is called an average and is neither tensors nor a setting."""


def contents(loaded: Mapping[Any, Any], prefix: str = "") -> Contents:
    """Of what a pickle held the tensors, numpy's arrays as such, and objects by their attributes."""
    whole = Contents()
    _collect(loaded, prefix, whole, (id(loaded),))
    return whole


def _collect(loaded: Mapping[Any, Any], prefix: str, into: Contents, within: tuple[int, ...]) -> None:
    is_optimizer = {"state", "param_groups"} <= loaded.keys()
    has_tensors = any(isinstance(value, Tensor | np.ndarray) for value in loaded.values())
    has_levels = any(isinstance(value, Mapping) for value in loaded.values())
    for key, value in loaded.items():
        word = _word(key)
        name = f"{prefix}{word}"
        if is_optimizer and word == "state" and isinstance(value, Mapping):
            value = _without_numbers(value, f"{name}.", into)
        is_weight = has_tensors and ("." in word or word in ("weight", "bias")) and not word.endswith(_EXTRA_STATE)
        is_flat = has_levels and "." not in word and kind_of(word) == "ema" and _is_vector(value)
        if isinstance(value, Tensor | np.ndarray | np.generic) and not is_flat:
            _add(value, name, is_weight, into)
        elif is_weight and (value is None or isinstance(value, list | tuple | Inert)) and not _is_module(value):
            into.unread[name] = value.stands_for if isinstance(value, Inert) else type(value).__name__
        elif id(value) not in within:
            _collect_inner(value, name, into, within)


def _collect_inner(value: Any, name: str, into: Contents, within: tuple[int, ...]) -> None:
    """What holds others: dictionaries, lists and objects; an object that leads back to one around it is left out."""
    is_averaged = any(kind_of(word) == "ema" for word in name.split("."))
    inner = _by_key(value)
    values = [*inner.values()]
    is_numbered = not isinstance(value, Inert | Namespace) and all(isinstance(key, int) for key in inner)
    if is_averaged and (isinstance(value, Tensor) or (is_numbered and any(map(_is_tensor, values)))):
        into.nameless.append(name)
    elif inner and (not isinstance(value, list | tuple) or not is_numbered or any(map(_by_key, values))):
        into.levels.append(f"{name}.")
        _collect(inner, f"{name}.", into, (*within, id(value)))
    elif is_averaged and (kind := _opaque(value)):
        into.opaque[name] = kind


def _by_key(value: Any) -> Mapping[Any, Any]:
    """What a dictionary, a list, pairs of names and values, or an object holds; nothing of all else."""
    if _is_module(value):
        return dict(module_tensors(value))
    if isinstance(value, Mapping):  # an object beside others that fill themselves like dictionaries is an empty one
        return value or getattr(value, "__dict__", {})
    if isinstance(value, Inert | Namespace):
        return vars(value)
    if not isinstance(value, list | tuple):
        return {}
    are_pairs = all(isinstance(each, list | tuple) and len(each) == 2 and isinstance(each[0], str) for each in value)
    return dict(value) if are_pairs else dict(enumerate(value))


def _is_module(value: Any) -> bool:
    return "_parameters" in getattr(value, "__dict__", {})


def _is_tensor(value: Any) -> bool:
    return isinstance(value, Tensor | np.ndarray) and value.ndim > 0


def _is_vector(value: Any) -> bool:
    return _is_tensor(value) and value.ndim == 1 and len(value) > 1


def _word(key: Any) -> str:
    """A key of a dictionary as a part of a name: parts of a tuple with dots between them."""
    if isinstance(key, bytes):
        return key.decode(errors="replace")
    if isinstance(key, tuple):
        return ".".join(map(_word, key))
    return key if isinstance(key, str) else str(key) if isinstance(key, int | float) else type(key).__name__


def _without_numbers(state: Mapping[Any, Any], prefix: str, into: Contents) -> Mapping[Any, Any]:
    """Of an optimiser's state what has names; by number it has no weights, but may keep their average."""
    for key, value in state.items():
        words = [word for word in _by_key(value) if isinstance(word, str) and not re.search("avg|average", word)]
        if not isinstance(key, str) and (averages := [word for word in words if kind_of(word) == "ema"]):
            into.nameless.append(f"{prefix}{_word(key)}.{averages[0]}")
            break
    return {key: value for key, value in state.items() if isinstance(key, str)}


def _opaque(value: Any) -> str:
    """What something under the name of an average is that may hold weights and is not read; "" if it is a setting."""
    if isinstance(value, Inert):
        return "" if vars(value) else type(value).stands_for
    if isinstance(value, str):
        return f"the path {value!r}" if Path(value).suffix in WEIGHT_SUFFIXES else ""
    return "bytes" if isinstance(value, bytes | bytearray) and len(value) > _MANY_BYTES else ""


def _add(value: Tensor | np.ndarray | np.generic, name: str, is_weight: bool, into: Contents) -> None:
    if isinstance(value, Tensor) and (kind := _without_strides(value)):
        into.unread[name] = f"{str(value.dtype).removeprefix('torch.')}, {kind}"
    elif isinstance(value, Tensor):
        into.tensors[name] = value
    else:
        try:
            into.tensors[name] = torch.from_numpy(np.array(value, dtype=value.dtype.newbyteorder("=")))
        except TypeError:
            if is_weight or (value.dtype.kind == "V" and value.ndim):
                into.unread[name] = f"{value.dtype} of numpy"
    if name in into.tensors and (dtype := into.tensors[name].dtype) not in (*DTYPES.values(), *FLOAT8.values()):
        into.unread[name] = str(dtype).removeprefix("torch.")


def _without_strides(tensor: Tensor) -> str:
    """What keeps the values of a tensor from being read row by row; "" if nothing."""
    if tensor.is_nested or tensor.layout != torch.strided:
        return "nested" if tensor.is_nested else f"layout {str(tensor.layout).removeprefix('torch.')}"
    return "on the meta device, without values" if tensor.is_meta else ""
