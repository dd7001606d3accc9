"""Pictures in Hugging Face datasets, saved to disk or from the hub; the library is imported when one is opened."""

import importlib
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ImageMode

from adaln.data.endpoint import asking_hub
from adaln.data.folders import without_classes
from adaln.data.numbers import Labelled, numbered, whole_number
from adaln.data.pictures import Mode, Source, one_at_a_time
from adaln.files import reading, reason

HUB = "hf:"
"""`hf:uoft-cs/cifar10` is the training split of a dataset of the hub."""
LABEL_COLUMNS = ("label", "labels", "class", "class_label", "class_id", "category", "target", "fine_label")
"""Names of columns that are taken for classes although they are no `ClassLabel`, the first that is there."""


def hub_dataset(path: str) -> Source:
    """The pictures of a Hugging Face dataset, named by their row."""
    table = open_table(path).with_format(None)
    with reading(Path(path), "a whole Hugging Face dataset"):
        names = [f"{number:08d}" for number in range(len(table))]
        (labels, class_names), label_column = labels_of(path, table)
        pictures = picture_column(path, table)
        read = one_at_a_time(reader(table, pictures))
        files = [Path(entry["filename"]).stat() for entry in table.cache_files]
    stamp = sum(file.st_size for file in files), max((file.st_mtime_ns for file in files), default=0)
    newest = max((file.st_ctime_ns for file in files), default=0)
    left = tuple(f"column {name!r}" for name in table.features if name not in (pictures, label_column))
    mode = declared_mode(table.features[pictures])
    return Source(Path(path), names, labels, class_names, [stamp] * len(names), read, left, newest, mode)


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
    with asking_hub() if path.startswith(HUB) else nullcontext("") as unreachable:
        try:
            if path.startswith(HUB):
                return datasets.load_dataset(path.removeprefix(HUB), split="train")
            table = datasets.load_from_disk(path)
        except Exception as error:  # of its many files
            raise ValueError(f"{path}: no Hugging Face dataset ({unreachable or reason(error)[:200]})") from error
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


def declared_mode(feature: Any) -> Mode | None:
    """Grey or colour, where the column says what its pictures are to be taken for."""
    mode = getattr(feature, "mode", None)
    return None if mode is None else "L" if ImageMode.getmode(mode).basemode == "L" else "RGB"


def labels_of(path: str, table: Any) -> tuple[Labelled, str]:
    """Labels by a column of classes: `label`, else the one with the most classes; else by a column whose name says so.

    Numbers count as they are, texts in their order. The column's name comes with them; "" without one.
    """
    columns = {name: feature for name, feature in table.features.items() if type(feature).__name__ == "ClassLabel"}
    if not columns:
        name = next((name for name in LABEL_COLUMNS if name in table.features), "")
        return by_values(path, name, table[name][:] if name else [None] * len(table)), name
    name = "label" if "label" in columns else max(columns, key=lambda name: columns[name].num_classes)
    values = table[name][:]
    labels = np.array([-1 if value is None else value for value in values], np.int64)
    if labels.min() < 0:
        raise ValueError(f"{path}: row {labels.argmin()} has no {name}; expected a class for every row")
    if labels.max() >= len(columns[name].names):
        row = labels.argmax()
        raise ValueError(f"{path}: row {row} has the {name} {labels[row]}, of {len(columns[name].names)} classes")
    return (labels, tuple(columns[name].names)), name


def by_values(path: str, name: str, values: list[Any]) -> Labelled:
    """Classes by the values of a column that is no `ClassLabel`."""
    rows = [f"row {number}" for number in range(len(values))]
    if not name:
        return without_classes(len(values))
    if all(isinstance(value, str) for value in values):
        class_names = tuple(sorted(set(values)))
        index = {value: number for number, value in enumerate(class_names)}
        return np.array([index[value] for value in values], np.int64), class_names
    try:
        return numbered([whole_number(value, row) for value, row in zip(values, rows, strict=True)], rows.__getitem__)
    except ValueError as error:
        raise ValueError(f"{path}: column {name!r}: {error} (or a text in every row)") from error


def reader(table: Any, column: str) -> Callable[[str], bytes]:
    """The encoded picture of a row, whose number is its name."""
    encoded = table.cast_column(column, library().Image(decode=False))

    def read(name: str) -> bytes:
        with reading(Path(f"row {int(name)}"), "a picture with its bytes or its path"):
            cell = encoded[int(name)][column]
            return bytes(cell["bytes"]) if cell["bytes"] is not None else Path(cell["path"]).read_bytes()

    return read
