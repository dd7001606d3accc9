"""Which class a picture is of: by its folder, by files of labels beside the pictures, or by an attribute of CelebA."""

import codecs
import csv
import json
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TypeVar

import numpy as np

from adaln.data.folders import by_folder, by_tars, doubts, made_of_others, refuse_splits, without_classes
from adaln.data.keys import CLASS, class_files, one_of_each_key, small_copies
from adaln.data.listing import Listing, ending, settled
from adaln.data.numbers import Labelled, check_distinct, numbered, whole_number
from adaln.data.pictures import SUFFIXES, Source
from adaln.files import reading, reason
from adaln.registry import nearest
from adaln.tensor_files import what_text

ATTRIBUTE_FILES = ("CelebAMask-HQ-attribute-anno.txt", "list_attr_celeba.txt", "list_attr_celeba.csv")
"""As CelebAMask-HQ and CelebA name theirs, and CelebA's as Kaggle gives it."""
HAS = {"1": 1, "-1": 0, "0": 0}
LABEL_FILES = ("dataset.json", "val_annotations.txt")
T = TypeVar("T")


def labelled(listing: Listing) -> Source:
    """The pictures among the files in order, with the labels that the layout gives them.

    Raises ValueError where there is nothing to learn from.
    """
    read: set[str] = set()

    def noted(name: str) -> bytes:
        read.add(name)
        return listing.read(name)

    names, listing = pictures_in(listing)
    try:
        of_names = label(names, replace(listing, read=noted))
        check_distinct(of_names[1])
    except ValueError as error:
        raise ValueError(f"{listing.path}: {error}") from error
    return source_of(names, of_names, listing, read)


def unlabelled(listing: Listing) -> Source:
    """The pictures among the files in order, for those who need no labels, wherever in it they lie.

    Raises ValueError where there are none.
    """
    names, listing = pictures_in(listing)
    ends = (*LABEL_FILES, CLASS)
    of_labels = {name for name in listing.stamps if name.rpartition("/")[2].lower().endswith(ends)}
    if not any(any(files_above(file, names, listing)) for file in LABEL_FILES):
        try:
            refuse_splits(listing.folders, names)
        except ValueError as error:
            raise ValueError(f"{listing.path}: {error}") from error
    return source_of(names, without_classes(len(names)), listing, of_labels)


def pictures_in(listing: Listing) -> tuple[list[str], Listing]:
    """The names of the pictures, sorted, one of each key, and the listing with all others passed over."""
    if not listing.pictures:
        num_files, others = len(listing.stamps), "; ".join(passed_over(listing, set()))
        among = f"its {num_files} files{f' ({others})' if others else ''}"
        tables = any(name.lower().endswith((".parquet", ".arrow")) for name in listing.stamps)
        way = "; datasets.load_dataset(FOLDER).save_to_disk(SET) makes a set of these tables" if tables else ""
        raise ValueError(f"{listing.path}: no images among {among}; expected {', '.join(SUFFIXES)}{way}")
    try:
        names, reasons = one_of_each_key(listing)
    except ValueError as error:
        raise ValueError(f"{listing.path}: {error}") from error
    of_others = dict.fromkeys(small_copies(names), "small copies")
    of_others |= dict.fromkeys(made_of_others(names), "made of the picture beside it")
    reasons |= of_others
    return [name for name in names if name not in of_others], replace(
        listing, passed_over=listing.passed_over | reasons
    )


def source_of(names: list[str], of_names: Labelled, listing: Listing, read: set[str]) -> Source:
    """These pictures and their labels; all files beside them that are not `read` are passed over."""
    stamps = [listing.stamps[name] for name in names]
    return Source(
        listing.path, names, *of_names, stamps, listing.read, passed_over(listing, read.union(names)), listing.newest
    )


def passed_over(listing: Listing, used: set[str]) -> tuple[str, ...]:
    """What lies there and is not `used`: how many of each kind, most first, with the first name."""
    reasons = {name: ending(name) for name in listing.stamps if name not in used} | listing.passed_over
    return by_kind(reasons)


def by_kind(reasons: Mapping[str, str]) -> tuple[str, ...]:
    """How many names are there for each reason, most first, with the first name."""
    first = {reason: name for name, reason in sorted(reasons.items(), reverse=True)}
    return tuple(f"{count} {reason} ({first[reason]})" for reason, count in Counter(reasons.values()).most_common())


def label(names: list[str], listing: Listing) -> Labelled:
    """Labels of the pictures `names` by the first rule that the layout fits, decided over all of them."""
    for file, rule in zip(LABEL_FILES, (by_dataset_json, by_annotations), strict=True):
        files = files_above(file, names, listing)
        if any(files):
            return rule(files, names, listing)
    refuse_splits(listing.folders, names)
    file_of = class_files(names, listing)
    if file_of:
        return by_class_files(file_of, listing)
    of_names = (by_tars if listing.in_tars else by_folder)(names, listing.folders, listing.stamps)
    listing.passed_over.update(doubts(names, of_names[1], listing))
    return of_names


def files_above(file: str, names: list[str], listing: Listing) -> list[str]:
    """For each picture the nearest `file` that lies above it, or "". But for tars it must lie above all pictures."""
    common = names[0].split("/")[:-1]
    while not names[-1].startswith("".join(f"{part}/" for part in common)):  # names are sorted
        common.pop()
    nearest_of: dict[str, str] = {}
    for name in names:
        folder = name.rpartition("/")[0] if listing.in_tars else "/".join(common)
        if folder not in nearest_of:
            parts = folder.split("/") if folder else []
            paths = ("/".join([*parts[:depth], file]) for depth in range(len(parts), -1, -1))
            nearest_of[folder] = next((path for path in paths if path in listing.stamps), "")
    return [nearest_of[name.rpartition("/")[0] if listing.in_tars else "/".join(common)] for name in names]


def by_dataset_json(files: list[str], names: list[str], listing: Listing) -> Labelled:
    """`{"labels": [["00000/img00000000.png", 6], ...]}`, or null for a set without classes.

    Source: the data set format of StyleGAN2-ADA and EDM (`dataset_tool.py`).
    """
    rows = {file: read_dataset_json(file, listing.read(file)) for file in sorted(set(files) - {""})}
    if all(of_file is None for of_file in rows.values()):
        return without_classes(len(names))
    own = [name.removeprefix(file[: -len("dataset.json")]) for file, name in zip(files, names, strict=True)]
    labels = look_up(rows, files, own, listing.passed_over)
    try:
        return numbered(labels, names.__getitem__)
    except ValueError as error:
        raise ValueError(f"{files[0]}: {error}") from error


def read_dataset_json(file: str, content: bytes) -> list[tuple[str, int]] | None:
    """The class of each name; None where labels are null."""
    expected = "expected {'labels': [[name, class], ...]} or null"
    refuse_pointer(content, f"{file}: ")
    try:
        whole = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file}: no JSON ({reason(error)}); {expected}") from error
    if not isinstance(whole, dict) or "labels" not in whole:
        raise ValueError(f"{file}: has no 'labels'; {expected}")
    pairs = whole["labels"]
    if not isinstance(pairs, list | None):
        raise ValueError(f"{file}: labels are a {type(pairs).__name__}; {expected}")
    for row, pair in enumerate(pairs or ()):
        if not (isinstance(pair, list) and len(pair) == 2):
            raise ValueError(f"{file}: label {row} is {repr(pair)[:40]}; {expected}")
    try:
        return None if pairs is None else [(str(name), whole_number(value, name)) for name, value in pairs]
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error


def file_key(name: str) -> str:
    """The form in which names are compared: accents composed, for some systems store them apart."""
    return unicodedata.normalize("NFC", settled(name))


def refuse_pointer(content: bytes, before: str = "") -> None:
    """ValueError where that is no file of labels but a pointer to one."""
    if content.startswith(b"version https://git-lfs"):
        raise ValueError(f"{before}it is {what_text(content)}")


def text_of(content: bytes, errors: str = "replace") -> str:
    """The text of a file of labels: UTF-8, or what its mark says; ValueError for a pointer to one."""
    refuse_pointer(content)
    is_wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return content.decode("utf-16" if is_wide else "utf-8-sig", errors)


def by_annotations(files: list[str], names: list[str], listing: Listing) -> Labelled:
    """Lines of `val_0.JPEG<tab>n03444034<tab>box`: Tiny ImageNet's validation part; classes sorted by name."""
    rows = {}
    for file in sorted(set(files) - {""}):
        with reading(Path(file), "a text of labels"):
            lines = text_of(listing.read(file)).splitlines()
        cells = [line.split("\t") for line in lines if line.strip()]
        if wrong := next((row for row in cells if len(row) < 2 or not row[1].strip()), None):
            raise ValueError(f"{file}: a line holds {' '.join(wrong)[:40]!r}; expected a name, a tab and a class")
        rows[file] = [(row[0], row[1]) for row in cells]
    of_names = look_up(rows, files, [PurePosixPath(name).name for name in names], listing.passed_over)
    class_names = tuple(sorted(set(of_names)))
    index = {name: number for number, name in enumerate(class_names)}
    return np.array([index[name] for name in of_names], np.int64), class_names


def by_class_files(file_of: Mapping[str, str], listing: Listing) -> Labelled:
    """`000123.jpg` beside `000123.cls`, which holds the class number in digits."""
    numbers = []
    for name, file in file_of.items():
        with reading(Path(file), "a class number"):
            content = text_of(listing.read(file)).strip() if file in listing.stamps else "nothing"
        if not (content.isascii() and content.isdigit() and len(content) < 20):
            raise ValueError(f"{file} holds {content[:20]!r}; expected the class number of {name!r}")
        numbers.append(int(content))
    return numbered(numbers, list(file_of).__getitem__)


def look_up(
    rows: Mapping[str, list[tuple[str, T]] | None], files: list[str], names: list[str], reasons: dict[str, str]
) -> list[T]:
    """The label of each picture, called `names` in its file of labels; `reasons` gets what is there without a use.

    Raises ValueError where a picture has none, rows contradict each other, or two pictures share a name.
    """
    tables = {file: one_of_each(file, of_file or (), reasons) for file, of_file in rows.items()}
    labels, used = [], set[tuple[str, str]]()
    for file, name in zip(files, names, strict=True):
        key = file_key(name)
        if key not in tables.get(file, {}):
            raise ValueError(f"{file or 'a file of labels'}: no label for image {name!r}; expected one for every image")
        if (file, key) in used:
            raise ValueError(f"{file}: two images are called {name!r}; expected one of each name")
        used.add((file, key))
        labels.append(tables[file][key])
    unused = (f"{file}: {key}" for file, table in tables.items() for key in table if (file, key) not in used)
    reasons |= dict.fromkeys(unused, "labels of no picture")
    return labels


def one_of_each(file: str, rows: Iterable[tuple[str, T]], reasons: dict[str, str]) -> dict[str, T]:
    """The label of each name; one that is given again is counted in `reasons`. ValueError where it is another one."""
    labels: dict[str, T] = {}
    for name, value in rows:
        key = file_key(name)
        if labels.get(key, value) != value:
            raise ValueError(f"{file}: {name!r} is of the classes {labels[key]} and {value}; expected one")
        if key in labels:
            reasons[f"{file}: {key}"] = "labels given twice"
        labels[key] = value
    return labels


def by_attribute(source: Source, attribute: str) -> Source:
    """The source with classes `not ATTRIBUTE` and `ATTRIBUTE` from the file of attributes in it or beside it."""
    files = [folder / name for folder in (source.path, source.path.parent) for name in ATTRIBUTE_FILES]
    file = next((file for file in files if file.is_file()), None)
    if file is None:
        others = {each.name: each for each in (*source.path.parent.glob("*attr*"), *source.path.glob("*attr*"))}
        found = f"; {', '.join(map(repr, sorted(others)[:6]))} is none of these" if others else ""
        expected = " or ".join(ATTRIBUTE_FILES)
        raise ValueError(f"{source.path}: no attributes; expected {expected} in it or beside it{found}")
    known, rows = read_attributes(file)
    if attribute not in known:
        raise ValueError(f"{file}: no attribute {attribute!r}{nearest(attribute, known)}; it has {', '.join(known)}")
    values = [(row[0], row[1 + known.index(attribute)]) for row in rows]
    if wrong := next((row for row in values if row[1] not in HAS), None):
        raise ValueError(f"{file}: {wrong[0]!r} has {wrong[1]!r} of {attribute}; expected 1 or -1")
    where, classes, reasons = str(file), (f"not {attribute}", attribute), dict[str, str]()
    own = [PurePosixPath(name).name for name in source.names]
    has = look_up({where: [(name, classes[HAS[value]]) for name, value in values]}, [where] * len(own), own, reasons)
    labels = np.array([value == attribute for value in has], np.int64)
    beside = tuple(kind for kind in source.passed_over if kind != f"1 {ending(file.name)} ({file.name})")
    return replace(source, labels=labels, class_names=classes, passed_over=(*beside, *by_kind(reasons)))


def read_attributes(file: Path) -> tuple[list[str], list[list[str]]]:
    """The attributes, and per image its name and values: beneath a count or not, or in a csv beneath a header."""
    with reading(file, "a text of attributes"):
        lines = [line for line in text_of(file.read_bytes(), "strict").splitlines() if line.strip()]
        table = list(csv.reader(lines, skipinitialspace=True)) if file.suffix == ".csv" else list(map(str.split, lines))
        count = int(table.pop(0)[0]) if table and len(table[0]) == 1 and table[0][0].isdecimal() else len(table) - 1
        known, *rows = [[cell.strip() for cell in row] for row in table] or [[]]
        known = known[1:] if file.suffix == ".csv" else known
        if count != len(rows):
            raise ValueError(f"it says that it has {count:,} rows and has {len(rows):,}; expected all of them")
        if wrong := next((row for row in rows if len(row) != len(known) + 1), None):
            raise ValueError(
                f"{wrong[0]!r} has {len(wrong) - 1} values; expected one of each of {len(known)} attributes"
            )
    return known, rows
