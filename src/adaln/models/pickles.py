"""Checkpoints that `torch.save` wrote, read without running what is in them."""

import pickle
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

Kind = Literal["ema", "model"]
SETS: Mapping[Kind, tuple[str, ...]] = {
    "ema": ("ema", "model_ema", "ema_state_dict"),
    "model": ("model", "state_dict", "module", "model_state_dict"),
}
"""What training checkpoints call their averaged and their raw weights."""


def load_pickle(file: Path) -> Mapping[str, Any]:
    """What the file holds by name, memory-mapped.

    DiT's and SiT's checkpoints hold their command line as well, an inert Namespace, which is let through. Raises
    ValueError in one line for a file that is damaged, foreign or holds code.
    """
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


def choose_set(loaded: Mapping[str, Any], file: Path, kind: Kind | None) -> tuple[dict[str, Tensor], Kind | None]:
    """The tensors of the set `kind` of a training checkpoint, by default the averaged ones, and which set was taken.

    None: the file holds one set only. Raises ValueError where `kind` is asked for and is not there.
    """
    sets = {
        wanted: loaded[key] for wanted, keys in SETS.items() for key in keys if isinstance(loaded.get(key), Mapping)
    }
    if kind is not None and kind not in sets:
        raise ValueError(f"{str(file)!r} has no set of weights {kind!r}; it has {' and '.join(sets) or 'one set only'}")
    taken = kind or next(iter(sets), None)
    found = sets[taken] if taken else loaded
    return {name: value for name, value in found.items() if isinstance(value, Tensor)}, taken
