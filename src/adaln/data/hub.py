"""Pictures in Hugging Face datasets, saved to disk or from the hub; the library is imported when one is opened."""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from adaln.data.labels import Labelled
from adaln.data.pictures import Source, one_at_a_time

HUB = "hf:"
"""`hf:uoft-cs/cifar10` is the training split of a dataset of the hub."""


def hub_dataset(path: str) -> Source:
    """The pictures of a Hugging Face dataset, named by their row."""
    table = open_table(path)
    names = [f"{number:08d}" for number in range(len(table))]
    labels, class_names = labels_of(path, table)
    read = one_at_a_time(reader(table, picture_column(path, table)))
    files = [Path(entry["filename"]).stat() for entry in table.cache_files]
    stamp = sum(file.st_size for file in files), max((file.st_mtime_ns for file in files), default=0)
    return Source(Path(path), names, labels, class_names, [stamp] * len(names), read)


def library() -> Any:
    try:
        return importlib.import_module("datasets")
    except ImportError as error:
        raise ValueError(
            "this set needs the Hugging Face library; install it with: pip install 'adaln[datasets]'"
        ) from error


def open_table(path: str) -> Any:
    """The rows of a dataset; of one with several splits, those for training."""
    datasets = library()
    try:
        if path.startswith(HUB):
            return datasets.load_dataset(path.removeprefix(HUB), split="train")
        table = datasets.load_from_disk(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: no Hugging Face dataset ({' '.join(str(error).split())[:200]})") from error
    if not isinstance(table, dict):
        return table
    if "train" not in table:
        raise ValueError(
            f"{path}: has the splits {', '.join(table)}; expected 'train', or give the folder of one split"
        )
    return table["train"]


def picture_column(path: str, table: Any) -> str:
    """The first column of images."""
    kinds: dict[str, str] = {name: type(feature).__name__ for name, feature in table.features.items()}
    if "Image" in kinds.values():
        return next(name for name, kind in kinds.items() if kind == "Image")
    raise ValueError(f"{path}: no column of images among {', '.join(f'{n} ({k})' for n, k in kinds.items())}")


def labels_of(path: str, table: Any) -> Labelled:
    """The column of classes called `label`, else the one with the most classes, else no classes."""
    columns = {name: feature for name, feature in table.features.items() if type(feature).__name__ == "ClassLabel"}
    if not columns:
        return np.zeros(len(table), np.int64), ()
    name = "label" if "label" in columns else max(columns, key=lambda name: columns[name].num_classes)
    labels = np.array(table[name], np.int64)
    if labels.min() < 0:
        raise ValueError(f"{path}: row {labels.argmin()} has no {name}; expected a class for every row")
    return labels, tuple(columns[name].names)


def reader(table: Any, column: str) -> Callable[[str], bytes]:
    """The encoded picture of a row, whose number is its name."""
    encoded = table.cast_column(column, library().Image(decode=False))

    def read(name: str) -> bytes:
        cell = encoded[int(name)][column]
        return bytes(cell["bytes"]) if cell["bytes"] is not None else Path(cell["path"]).read_bytes()

    return read
