"""Pictures in Hugging Face datasets, saved to disk or from the hub; the library is imported when one is opened."""

import importlib
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ImageMode

from adaln.data.endpoint import asking_hub
from adaln.data.folders import without_classes
from adaln.data.keys import MISSING, missing
from adaln.data.labels import by_kind
from adaln.data.listing import ending, list_folder
from adaln.data.numbers import Labelled, check_distinct, numbered, whole_number
from adaln.data.pictures import Mode, Source, one_at_a_time
from adaln.files import reading, reason

HUB = "hf:"
"""`hf:uoft-cs/cifar10` is the training split of a dataset of the hub."""
PICTURES, LABELS = ("image", "img"), ("label", "labels", "fine_label")
"""Names of columns that are taken before all others for pictures and for classes, the first that is there."""
CLASSES = ("class", "class_label", "class_id", "category", "target")
"""Names of columns that may be classes although they are no `ClassLabel`."""
OWN_FILES = ("state.json", "dataset_info.json", "dataset_dict.json")
"""What the library keeps beside the rows."""


def hub_dataset(path: str) -> Source:
    """The pictures of a Hugging Face dataset, named by their row."""
    table, left = open_table(path)
    table = table.with_format(None)
    with reading(Path(path), "a whole Hugging Face dataset"):
        names = [f"{number:08d}" for number in range(len(table))]
        (labels, class_names), label_column = labels_of(path, table)
        check_distinct(class_names)
        pictures = picture_column(path, table)
        read = one_at_a_time(reader(table, pictures))
        files = [Path(entry["filename"]).stat() for entry in table.cache_files]
    stamp = sum(file.st_size for file in files), max((file.st_mtime_ns for file in files), default=0)
    newest = max((file.st_ctime_ns for file in files), default=0)
    left = (*(f"column {name!r}" for name in table.features if name not in (pictures, label_column)), *left)
    mode = declared_mode(table.features[pictures])
    return Source(Path(path), names, labels, class_names, [stamp] * len(names), read, left, newest, mode)


def library() -> Any:
    try:
        return importlib.import_module("datasets")
    except ImportError as error:
        raise ValueError(
            "this set needs the Hugging Face library; install it with: pip install 'adaln[datasets]'"
        ) from error


def open_table(path: str) -> tuple[Any, tuple[str, ...]]:
    """The rows of a dataset; of one with several splits, those for training. And what is passed over beside them."""
    datasets = library()
    with asking_hub() if path.startswith(HUB) else nullcontext("") as unreachable:
        try:
            if path.startswith(HUB):
                table = datasets.load_dataset(path.removeprefix(HUB), split="train")
                counts = {name: split.num_examples for name, split in (table.info.splits or {}).items()}
                return table, other_splits(counts)
            table = datasets.load_from_disk(path)
        except Exception as error:  # of its many files
            raise ValueError(f"{path}: no Hugging Face dataset ({unreachable or reason(error)[:200]})") from error
    if not isinstance(table, dict):
        return table, other_files(Path(path), table, ())
    if "train" not in table:
        raise ValueError(
            f"{path}: has the splits {', '.join(table)}; expected 'train', or give the folder of one split"
        )
    others = other_splits({name: len(rows) for name, rows in table.items()})
    return table["train"], (*others, *other_files(Path(path), table["train"], table))


def other_splits(counts: Mapping[str, int]) -> tuple[str, ...]:
    """The splits that are not for training."""
    return tuple(f"split {name!r} ({count} rows)" for name, count in counts.items() if name != "train")


def other_files(root: Path, table: Any, splits: Iterable[str]) -> tuple[str, ...]:
    """Files in the folder of a set that are not read, and those of its rows that a numbering lacks."""
    listing, used = list_folder(root), {Path(entry["filename"]).resolve() for entry in table.cache_files}
    if not used:  # the library holds all in memory and does not say of which files
        return ()
    elsewhere = tuple(f"{name}/" for name in splits if name != "train")
    own = [name for name in listing.stamps if not name.startswith(elsewhere)]
    beside = {
        name: ending(name) for name in own if (root / name).resolve() not in used and not name.endswith(OWN_FILES)
    }
    gaps = missing(name for name in own if name.endswith(".arrow"))
    return by_kind(beside | listing.passed_over | dict.fromkeys(gaps, MISSING))


def column(path: str, use: str, candidates: list[str], first: tuple[str, ...]) -> str:
    """The column of a use: by the names that are taken `first`, else the only one; "" where there is none.

    ValueError where it may be several.
    """
    named = [name for wanted in first for name in sorted(candidates, reverse=True) if name.lower() == wanted]
    if not named and len(candidates) > 1:
        raise ValueError(
            f"{path}: the columns {', '.join(candidates)} may all be the {use}; rename the one that is meant to"
            f" {first[0]!r} (rename_column) and save the set again (save_to_disk)"
        )
    return next(iter(named or candidates), "")


def picture_column(path: str, table: Any) -> str:
    """The column of images."""
    kinds: dict[str, str] = {name: type(feature).__name__ for name, feature in table.features.items()}
    if name := column(path, "pictures", [name for name, kind in kinds.items() if kind == "Image"], PICTURES):
        return name
    raise ValueError(f"{path}: no column of images among {', '.join(f'{n} ({k})' for n, k in kinds.items())}")


def declared_mode(feature: Any) -> Mode | None:
    """Grey or colour, where the column says what its pictures are to be taken for."""
    mode = getattr(feature, "mode", None)
    return None if mode is None else "L" if ImageMode.getmode(mode).basemode == "L" else "RGB"


def labels_of(path: str, table: Any) -> tuple[Labelled, str]:
    """Labels by the column of classes: a `ClassLabel`, or one whose name says so.

    Numbers count as they are, texts in their order. The column's name comes with them; "" without one.
    """
    columns = {name: feature for name, feature in table.features.items() if type(feature).__name__ == "ClassLabel"}
    candidates = [name for name in table.features if name in columns or name.lower() in LABELS + CLASSES]
    name = column(path, "labels", candidates, LABELS)
    if name not in columns:
        return by_values(path, name, table[name][:] if name else [None] * len(table)), name
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
        if "" in values:
            raise ValueError(
                f"{path}: row {values.index('')} has an empty text as {name}; expected a class for every row"
            )
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
            cell = encoded[int(name)][column] or {}
            if cell.get("bytes") is None and not cell.get("path"):
                raise ValueError(f"row {int(name)} holds no picture in its column {column!r}")
            return bytes(cell["bytes"]) if cell["bytes"] is not None else Path(cell["path"]).read_bytes()

    return read
