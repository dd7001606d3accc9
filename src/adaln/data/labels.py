"""Which class a picture is of: by its folder, by a file of labels beside the pictures, or by an attribute of CelebA."""

import json
from dataclasses import replace
from pathlib import PurePosixPath
from typing import TypeVar

import numpy as np
from jaxtyping import Int64

from adaln.data.listing import Listing
from adaln.data.pictures import SUFFIXES, Source
from adaln.registry import nearest

T = TypeVar("T")
Labelled = tuple[Int64[np.ndarray, "N"], tuple[str, ...]]
"""A label per picture and the names of the classes; no names: the set has no classes and all labels are 0."""
SPLITS = {"train", "training", "val", "valid", "validation", "test"}
ATTRIBUTE_FILES = ("CelebAMask-HQ-attribute-anno.txt", "list_attr_celeba.txt")
"""As CelebAMask-HQ and CelebA name theirs: a count, a line of attributes, then per image its name and 1 or -1 each."""


def labelled(listing: Listing) -> Source:
    """The pictures among the files in order, with the labels that the layout gives them.

    Raises ValueError where there is nothing to learn from.
    """
    names = listing.pictures
    try:
        if not names:
            raise ValueError(f"no images among its {len(listing.stamps)} files; expected {', '.join(SUFFIXES)}")
        labels, class_names = label(names, listing)
    except ValueError as error:
        raise ValueError(f"{listing.path}: {error}") from error
    stamps = [listing.stamps[name] for name in names]
    return Source(listing.path, names, labels, class_names, stamps, listing.read)


def label(names: list[str], listing: Listing) -> Labelled:
    """Labels of the pictures `names` by the first rule that the layout fits."""
    for file, rule in (("dataset.json", by_dataset_json), ("val_annotations.txt", by_annotations)):
        if file in listing.stamps:
            return rule(file, names, listing.read(file))
    if not listing.in_tars:
        return by_folder(names, listing.folders)
    if class_file(names[0]) in listing.stamps:
        return by_class_files(names, listing)
    return by_folder([inside(name) for name in names], {inside(folder) for folder in listing.folders} - {""})


def by_dataset_json(file: str, names: list[str], content: bytes) -> Labelled:
    """`{"labels": [["00000/img00000000.png", 6], ...]}`, or null for a set without classes.

    Source: the data set format of StyleGAN2-ADA and EDM (`dataset_tool.py`).
    """
    try:
        pairs = json.loads(content)["labels"]
        labels_of = {str(name): int(number) for name, number in pairs or ()}
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{file}: {error!r}; expected {{'labels': [[name, class], ...]}} or null") from error
    if not pairs:
        return np.zeros(len(names), np.int64), ()
    labels = np.array([look_up(file, labels_of, name) for name in names], np.int64)
    if labels.min() < 0:
        raise ValueError(f"{file}: class {labels.min()} of {names[labels.argmin()]!r}; expected 0 or more")
    return labels, tuple(str(number) for number in range(labels.max() + 1))


def by_annotations(file: str, names: list[str], content: bytes) -> Labelled:
    """Lines of `val_0.JPEG<tab>n03444034<tab>box`: Tiny ImageNet's validation part; classes sorted by name."""
    rows = [line.split("\t") for line in content.decode().splitlines() if line.strip()]
    class_of = {row[0]: row[1] for row in rows if len(row) > 1}
    of_names = [look_up(file, class_of, PurePosixPath(name).name) for name in names]
    class_names = tuple(sorted(set(of_names)))
    index = {name: number for number, name in enumerate(class_names)}
    return np.array([index[name] for name in of_names], np.int64), class_names


def class_file(name: str) -> str:
    """`t.tar/000123.cls` of `t.tar/000123.jpg`: WebDataset's key ends at the first dot of the last part."""
    return str(PurePosixPath(name).with_name(PurePosixPath(name).name.split(".")[0] + ".cls"))


def inside(name: str) -> str:
    """The name without that of the tar."""
    return name.partition("/")[2]


def by_class_files(names: list[str], listing: Listing) -> Labelled:
    """`000123.jpg` beside `000123.cls`, which holds the class number in digits.

    Source: https://github.com/webdataset/webdataset, "The WebDataset Format".
    """
    numbers = []
    for name in names:
        file = class_file(name)
        content = listing.read(file).decode(errors="replace").strip() if file in listing.stamps else "nothing"
        if not (content.isascii() and content.isdigit()):
            raise ValueError(f"{file} holds {content[:20]!r}; expected the class number of {name!r}")
        numbers.append(int(content))
    return np.array(numbers, np.int64), tuple(str(number) for number in range(max(numbers) + 1))


def look_up(file: str, labels: dict[str, T], name: str) -> T:
    if name not in labels:
        raise ValueError(f"{file}: no label for image {name!r}; expected one for every image")
    return labels[name]


def by_folder(names: list[str], folders: set[str]) -> Labelled:
    """One folder per class, however deep the pictures lie in it; no labels if all lie at the top."""
    tops = {folder for folder in folders if "/" not in folder}
    is_packed = len(tops) == 1 and all(name.count("/") >= 2 for name in names)  # all in one folder, as in many zips
    root = f"{tops.pop()}/" if is_packed else ""
    flat = [name for name in names if "/" not in name.removeprefix(root)]
    if len(flat) == len(names):
        return np.zeros(len(names), np.int64), ()
    if flat:
        raise ValueError(f"image {flat[0]!r} lies beside class folders; expected all images in class folders")
    class_names = class_folders(root, names, folders)
    index = {name: number for number, name in enumerate(class_names)}
    return np.array([index[name.removeprefix(root).split("/")[0]] for name in names], np.int64), class_names


def class_folders(root: str, names: list[str], folders: set[str]) -> tuple[str, ...]:
    """Sorted names of the folders directly beneath `root`; each must hold a picture."""
    inside = {folder.removeprefix(root) for folder in folders if folder.startswith(root)}
    classes = sorted(folder for folder in inside if folder and "/" not in folder)
    filled = {name.removeprefix(root).split("/")[0] for name in names}
    empty = [folder for folder in classes if folder not in filled]
    if {folder.lower() for folder in classes} <= SPLITS:
        raise ValueError(f"{', '.join(classes)} are splits, not classes; expected one of them alone")
    if empty:
        raise ValueError(f"class folder {empty[0]!r} holds no image; fill or remove it ({len(empty)} empty)")
    return tuple(classes)


def by_attribute(source: Source, attribute: str) -> Source:
    """The source with classes `not ATTRIBUTE` and `ATTRIBUTE` from the file of attributes in it or beside it."""
    files = [folder / name for folder in (source.path, source.path.parent) for name in ATTRIBUTE_FILES]
    file = next((file for file in files if file.is_file()), None)
    if file is None:
        raise ValueError(f"{source.path}: no attributes; expected {' or '.join(ATTRIBUTE_FILES)} in it or beside it")
    lines = file.read_text().splitlines()[1:]
    known = lines[0].split() if lines else []
    if attribute not in known:
        raise ValueError(f"{file}: no attribute {attribute!r}{nearest(attribute, known)}; it has {', '.join(known)}")
    rows = (line.split() for line in lines[1:] if line.strip())
    has = {row[0]: row[1 + known.index(attribute)] == "1" for row in rows if len(row) == len(known) + 1}
    missing = [name for name in source.names if PurePosixPath(name).name not in has]
    if missing:
        raise ValueError(f"{file}: no attributes of {missing[0]!r} ({len(missing):,} images are missing)")
    labels = np.array([has[PurePosixPath(name).name] for name in source.names], np.int64)
    return replace(source, labels=labels, class_names=(f"not {attribute}", attribute))
