"""Tensors by name in files: written, described, opened whoever wrote them, and held against a network.

No code from a file is ever run: safetensors, and what `torch.save` wrote as far as it is weights only.
"""

import json
import pickle
import re
from argparse import Namespace
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from adaln.files import reading
from adaln.registry import nearest

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""Types by their names in a safetensors header."""
WeightSet = Literal["ema", "model"]
SETS: Mapping[WeightSet, tuple[str, ...]] = {
    "ema": ("ema", "model_ema", "ema_state_dict"),
    "model": ("model", "state_dict", "module", "model_state_dict"),
}
"""What training checkpoints call their averaged and their raw weights."""


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
    read_header(path)
    return load_file(path)


def is_whole(path: Path) -> bool:
    """Whether a safetensors file has a sound header and every byte that it promises; reads the header only."""
    try:
        with safe_open(path, "pt"):
            return True
    except (OSError, RuntimeError, SafetensorError):  # torch opens the file once more: it may be gone by then
        return False


def read_header(path: Path) -> tuple[dict[str, Any], dict[str, str], int]:
    """Of a safetensors file the entries by tensor, the metadata, and how many bytes lie before the first tensor's.

    An entry has `dtype` (see `DTYPES`), `shape`, and `data_offsets` after those bytes. `ValueError` in one line where
    the file is not whole. Source: https://huggingface.co/docs/safetensors, section "Format".
    """
    if not is_whole(path):
        raise ValueError(f"{str(path)!r} is not a complete safetensors file (truncated, or of another format)")
    with path.open("rb") as file:
        num_bytes = int.from_bytes(file.read(8), "little")
        entries = json.loads(file.read(num_bytes))
    return entries, entries.pop("__metadata__", {}), 8 + num_bytes


class TensorFile(Mapping[str, Tensor]):
    """One safetensors file, or the shards of a model, as a mapping that maps one tensor at a time into memory and lets
    go of it with the tensor.

    Mapping files as a whole would keep every page that was read, a checkpoint's size in the end. `ValueError` in one
    line where a file is missing, cut short, or of another format.
    """

    def __init__(self, *paths: Path) -> None:
        self._places: dict[str, tuple[Path, int]] = {}
        self.meta: dict[str, Tensor] = {}
        for path in paths:
            entries, _, start = read_header(path)
            for name, entry in entries.items():
                if entry["dtype"] in DTYPES:
                    self._places[name] = path, start + entry["data_offsets"][0]
                    self.meta[name] = torch.empty(entry["shape"], dtype=DTYPES[entry["dtype"]], device="meta")

    def __getitem__(self, name: str) -> Tensor:
        (path, begin), meta = self._places[name], self.meta[name]
        if not meta.nbytes:
            return torch.zeros_like(meta, device="cpu")
        values = np.memmap(path, np.uint8, mode="c", offset=begin, shape=meta.nbytes)  # "c": torch wants writable
        return torch.from_numpy(values).view(meta.dtype).reshape(meta.shape)

    def chunks(self, name: str, rows: slice, num_elements: int) -> Iterator[Tensor]:
        """Rows of a tensor as flat chunks, all in one buffer: each is gone when the next is asked for."""
        (path, begin), meta = self._places[name], self.meta[name]
        start, stop, _ = rows.indices(meta.shape[0])
        row_elements = prod(meta.shape[1:])
        buffer = torch.empty(min((stop - start) * row_elements, num_elements), dtype=meta.dtype)
        bytes_left = (stop - start) * row_elements * meta.itemsize
        with path.open("rb") as file:
            file.seek(begin + start * row_elements * meta.itemsize)
            while bytes_left:
                view = buffer.view(torch.uint8).numpy().data[:bytes_left]
                file.readinto(view)
                yield buffer[: len(view) // meta.itemsize]
                bytes_left -= len(view)

    def __iter__(self) -> Iterator[str]:
        return iter(self.meta)

    def __len__(self) -> int:
        return len(self.meta)


def shapes(tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """A mapping that answers questions about names, shapes and types without reading values (of a file: on meta)."""
    return tensors.meta if isinstance(tensors, TensorFile) else tensors


@dataclass(frozen=True, slots=True, eq=False)
class OpenedWeights:
    """Weights by the names that their file gives them."""

    tensors: Mapping[str, Tensor]
    """Memory-mapped: read when used."""
    file: Path
    """Of a folder the one that was chosen; of shards their index."""
    taken: WeightSet | None
    """Which of a training checkpoint's sets; None: the file holds one set only."""


def open_weights(path: Path, wanted: WeightSet | None = None) -> OpenedWeights:
    """The weights in a safetensors file, in what `torch.save` wrote, or in a diffusers folder, whole or in shards.

    Of a training checkpoint ({"model": ..., "ema": ..., ...}) the set `wanted`, by default the averaged weights if they
    are there. Raises `ValueError` in one line for what is missing, damaged, foreign, or holds code.
    """
    if not path.exists():
        others = [str(other) for other in path.parent.glob("*")] if path.parent.is_dir() else []
        raise ValueError(f"weights {str(path)!r} do not exist{nearest(str(path), others)}")
    file = file_in(path) if path.is_dir() else path
    loaded: Mapping[str, Any]
    if file.suffix == ".json":
        with reading(file, "the index of a sharded model"):
            names = set(json.loads(file.read_text(encoding="utf-8"))["weight_map"].values())
            shards = [file.with_name(Path(name).name) for name in sorted(names)]  # all beside it
        loaded = TensorFile(*shards)
    elif file.suffix == ".safetensors" or is_whole(file):
        loaded = TensorFile(file)
    else:
        loaded = load_pickle(file)
    return choose_set(loaded, file, wanted)


def file_in(folder: Path) -> Path:
    """The file of a diffusers folder, or of its `transformer`, that holds the weights, or lists those that do."""
    for inside in (folder, folder / "transformer"):
        stem = "*" if (inside / "config.json").is_file() else "diffusion_pytorch_model*"
        for pattern in (f"{stem}.safetensors.index.json", f"{stem}.safetensors", "diffusion_pytorch_model*.bin"):
            if files := sorted(inside.glob(pattern), key=lambda file: len(file.name)):  # variants have longer names
                return files[0]
    raise ValueError(
        f"folder {str(folder)!r} is no run and no diffusers model: no config.json with .safetensors files, no"
        " diffusion_pytorch_model.safetensors or .bin, there or in transformer/"
    )


def load_pickle(file: Path) -> Mapping[str, Any]:
    """What a file of `torch.save` holds by name, memory-mapped.

    DiT's and SiT's checkpoints hold their command line as well, an inert Namespace, which is let through. Raises
    ValueError in one line for a file that is damaged, foreign or holds code.
    """
    with torch.serialization.safe_globals([Namespace]):
        try:
            loaded = _load_mapped(file)
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


def _load_mapped(file: Path) -> Any:
    try:
        return torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except RuntimeError:  # torch before 1.6 wrote files that cannot be mapped
        return torch.load(file, map_location="cpu", weights_only=True)


def choose_set(loaded: Mapping[str, Any], file: Path, wanted: WeightSet | None) -> OpenedWeights:
    """Of what a file holds by name the tensors: of a training checkpoint's sets one, else all."""
    sets = {known: loaded[key] for known, keys in SETS.items() for key in keys if isinstance(loaded.get(key), Mapping)}
    if wanted is not None and wanted not in sets:
        has = " and ".join(sets) or "one set only"
        raise ValueError(f"{str(file)!r} has no set of weights {wanted!r}; it has {has}")
    taken = wanted or next(iter(sets), None)
    chosen = sets[taken] if taken else loaded
    if not isinstance(chosen, TensorFile):
        chosen = {name: value for name, value in chosen.items() if isinstance(value, Tensor)}
    return OpenedWeights(chosen, file, taken)


def misfit(expected: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> str:
    """What is missing, unexpected (with the nearest name) or of another shape, block numbers as ranges; "" if nothing.

    >>> misfit({f"blocks.{i}.a": torch.empty(2) for i in range(4)}, {"blocks.0.a": torch.empty(3)})
    'missing blocks.1-3.a; of another shape blocks.0.a (3) for (2)'
    """
    missing = grouped(name for name in expected if name not in given)
    unexpected = grouped(name for name in given if name not in expected)
    choices = missing or grouped(expected)
    parts = (
        ("missing", missing),
        ("unexpected", [name + nearest(name, choices) for name in unexpected]),
        ("of another shape", _wrong_shapes(expected, given)),
    )
    return "; ".join(f"{word} {', '.join(names)}" for word, names in parts if names)


def _wrong_shapes(expected: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> list[str]:
    names_by_shapes: dict[str, list[str]] = defaultdict(list)
    for name in expected.keys() & given.keys():
        pair = [f"({', '.join(map(str, tensors[name].shape))})" for tensors in (given, expected)]
        if pair[0] != pair[1]:
            names_by_shapes[" for ".join(pair)].append(name)
    return sorted(f"{name} {pair}" for pair, names in names_by_shapes.items() for name in grouped(names))


def grouped(names: Iterable[str]) -> list[str]:
    """Names that differ only in their first number as one.

    >>> grouped(["output.bias", "latent.0.a", "latent.1.a", "latent.3.a", "encoder_level_1.0.a"])
    ['output.bias', 'latent.0-1,3.a', 'encoder_level_1.0.a']
    """
    groups: dict[tuple[str, str], list[int]] = defaultdict(list)
    plain: list[str] = []
    for name in names:
        numbered = re.fullmatch(r"(.*?\.)(\d+)(\..*)", name)
        if numbered:
            groups[numbered[1], numbered[3]].append(int(numbered[2]))
        else:
            plain.append(name)
    return plain + [f"{head}{_ranges(sorted(numbers))}{tail}" for (head, tail), numbers in groups.items()]


def _ranges(numbers: list[int]) -> str:
    starts = [n for n in numbers if n - 1 not in numbers]
    ends = [n for n in numbers if n + 1 not in numbers]
    return ",".join(f"{a}" if a == b else f"{a}-{b}" for a, b in zip(starts, ends, strict=True))
