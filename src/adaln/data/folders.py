"""Classes by where pictures lie: a folder each, or a tar each."""

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence

import numpy as np

from adaln.data.listing import Listing, ending, parents
from adaln.data.numbers import Labelled

SPLITS = {"train", "training", "trainval", "val", "valid", "validation", "minival", "test", "testing"}
UNSEEN = {"dev", "eval", "evaluation", "heldout", "holdout"}
PARTS = SPLITS | UNSEEN | {"extra", "labeled", "labelled", "supervised", "unlabeled", "unlabelled", "unsupervised"}
"""What parts of a set are called; two of them side by side are no classes."""
THINGS = {"train", "valid"}
"""Splits that may be classes as well: of vehicles, of documents."""
FILLERS = {"a", "b", "set", "dataset", "data", "image", "images", "img", "imgs", "split", "folder"}
"""What is said beside the part: `train_images`, `testA`."""
ABBREVIATED = PARTS | {"tr", "te", "ts", "trn", "tst"}
"""What parts are called where all names side by side are such."""
PICTURES = {"image", "images", "img", "imgs", "jpegimages", "pngimages", "photos", "rgb", "input", "inputs"}
OF_PICTURES = {
    *(
        "mask",
        "masks",
        "label",
        "labels",
        "annotation",
        "annotations",
        "annots",
        "trimap",
        "trimaps",
        "depth",
        "depths",
    ),
    *("seg", "segs", "segmentation", "segmentations", "segmap", "segmaps", "segmentationclass", "segmentationobject"),
    *("gt", "gts", "truth", "groundtruth", "groundtruths", "target", "targets", "landmarks", "edges"),
}
"""Words by which folders hold pictures, and what was made of each of them: side by side no classes."""
MADE = OF_PICTURES | {
    *("alpha", "matte", "mattes", "semantic", "instance", "instances", "ids", "normal", "normals", "edge", "canny"),
    *("saliency", "heatmap", "parsing", "contour", "contours", "bbox", "disparity", "pose", "keypoints", "thumb"),
}
"""Words by which a picture says that it was made of the one beside it."""
HALVES = {
    *("hr", "lr", "hq", "lq", "sr", "a", "b", "x", "y", "input", "inputs", "output", "outputs", "target", "targets"),
    *("source", "src", "tgt", "clean", "noisy", "noise", "sharp", "blur", "blurry", "blurred", "clear", "hazy", "haze"),
    *("before", "after", "original", "edited", "degraded", "restored", "condition", "conditioning", "ref", "reference"),
    *("gt", "rainy", "rain", "norain", "low", "high", "left", "right", "bicubic"),
}
"""What the two sides of pairs of pictures are called, and classes as well."""
WORD = re.compile(r"[^\W\d_]+")
SYNSET = re.compile(r"n\d{8}")


WAY_ON = "expected one of them alone: give its own path, or rename what is a class"


def without_classes(num_pictures: int) -> Labelled:
    """Labels of a set that has none."""
    return np.zeros(num_pictures, np.int64), ()


def by_folder(names: list[str], folders: Collection[str], files: Iterable[str]) -> Labelled:
    """One folder per class, however deep the pictures lie in it; no labels if all lie at the top."""
    root, depth = "", 2
    while len(tops := beneath(root, folders)) == 1:
        least = depth - bool(parts_among(tops))  # pictures in a folder `train` alone are not of a class
        if any(name.count("/") < least for name in names):
            break
        root, depth = f"{root}{tops.pop()}/", depth + 1  # all in one folder, as in many zips
    flat = [name for name in names if "/" not in name.removeprefix(root)]
    if len(flat) == len(names):
        return without_classes(len(names))
    if flat:
        raise ValueError(f"image {flat[0]!r} lies beside class folders; expected all images in class folders")
    for part in parts_among(tops):
        inside = [name.removeprefix(f"{root}{part}/") for name in names if name.startswith(f"{root}{part}/")]
        if all("/" in name for name in inside) and len({name.split("/")[0] for name in inside}) > 1:
            raise ValueError(f"{part} is a split, not a class, and has classes within; {WAY_ON}")
    held = {name: name.removeprefix(root).split("/")[0] for name in files if name.startswith(root)}
    return by_container([held[name] for name in names], sorted(tops), held, "class folder")


def beneath(root: str, folders: Iterable[str]) -> set[str]:
    """Names of the folders directly beneath `root`."""
    inside = (folder.removeprefix(root) for folder in folders if folder.startswith(root))
    return {folder for folder in inside if folder and "/" not in folder}


def by_container(of_names: list[str], classes: list[str], held: dict[str, str], kind: str) -> Labelled:
    """A class for each of `classes`, which must hold a picture; `of_names`: which one holds each picture, `held`: each
    file."""
    refuse_parts("", classes)
    alone = [name for name, part in parts_among(classes).items() if part in SPLITS - THINGS]
    if alone:
        raise ValueError(f"{alone[0]} is a split, not a class; {WAY_ON}")
    empty = sorted(set(classes) - set(of_names))
    if empty:
        endings = Counter(ending(name) for name, holder in held.items() if holder == empty[0])
        but = f" ({', '.join(f'{count} {kind}' for kind, count in endings.most_common())})" if endings else ""
        raise ValueError(f"{kind} {empty[0]!r} holds no image{but}; fill or remove it ({len(empty)} empty)")
    index = {name: number for number, name in enumerate(classes)}
    return np.array([index[name] for name in of_names], np.int64), tuple(classes)


def parts_among(names: Collection[str]) -> dict[str, str]:
    """Which of the names side by side are parts of a set, and which part each is; words that all have do not count.

    >>> parts_among(["birds-train-00.tar", "birds_extra.tar"]), parts_among(["night train", "freight train"])
    ({'birds-train-00.tar': 'train', 'birds_extra.tar': 'extra'}, {})
    """
    words = {name: [word for word in words_of(name) if word not in FILLERS] for name in names}
    common = set.intersection(*map(set, words.values())) if words else set()
    own = {name: "".join(word for word in of if word not in common) or "".join(of) for name, of in words.items()}
    known = ABBREVIATED if ABBREVIATED.issuperset(own.values()) else PARTS
    return {name: part for name, of in own.items() if (part := of.removesuffix("set")) in known}


def words_of(name: str) -> list[str]:
    """
    >>> words_of("train-maskA_01.tar")
    ['train', 'mask', 'a']
    """
    return WORD.findall(re.sub(r"(?<=[a-z])(?=[A-Z])", " ", stem(name)).lower())


def refuse_parts(parent: str, names: Collection[str]) -> None:
    """ValueError where two parts of a set lie side by side."""
    parts = parts_among(names)
    if len(set(parts.values())) > 1:
        listed = ", ".join(f"{parent}/{name}" if parent else name for name in sorted(parts))
        raise ValueError(f"{listed} are splits, not classes; {WAY_ON}")


def refuse_pairs(parent: str, names: Collection[str]) -> None:
    """ValueError where pictures lie side by side with their masks, labels or the like."""
    made = [name for name in sorted(names) if not OF_PICTURES.isdisjoint(words_of(name))]
    of = [name for name in sorted(names) if name not in made and not PICTURES.isdisjoint(words_of(name))]
    if made and of:
        listed = ", ".join(f"{parent}/{name}" if parent else name for name in (*of, *made))
        raise ValueError(f"{listed} are pictures and what belongs to each of them, not classes; {WAY_ON}")


def refuse_splits(folders: Iterable[str], names: Iterable[str]) -> None:
    """ValueError where two parts of a set, or pictures and their masks, lie side by side at any depth: they would be
    mixed. `names`: of the pictures; a folder without any is of another kind.
    """
    holding = {folder for name in names for folder in parents(name)}
    children = defaultdict(list)
    for folder in folders:
        parent, _, name = folder.rpartition("/")
        children[parent].append(name)
    for parent, names in children.items():
        refuse_parts(parent, names)
        refuse_pairs(parent, [name for name in names if (f"{parent}/{name}" if parent else name) in holding])


def made_of_others(names: Iterable[str]) -> set[str]:
    """Pictures that are called as one beside them is, but for words of what was made of it; a numbered one may have a
    word of its own.

    >>> sorted(made_of_others(["0.png", "0_mask.png", "1-sat.jpg", "1-LabelIds.png", "2.png", "mask.png"]))
    ['0_mask.png', '1-LabelIds.png']
    """
    plain, made = set[tuple[str, ...]](), dict[str, tuple[str, ...]]()
    for name in names:
        folder, _, last = name.rpartition("/")
        words = re.findall(r"[^\W\d_]+|\d+", re.sub(r"(?<=[a-z\d])(?=[A-Z])", " ", last.rpartition(".")[0]).lower())
        first = next((place for place, word in enumerate(words) if word in MADE), None)
        before, after = words[:first], [word for word in words[first or 0 :] if word not in MADE]
        if first is not None and (first == 0 or all(map(str.isdigit, after))):
            made[name] = (folder, *(before if first else after))
        else:
            plain.add((folder, *words))
            if len(words) > 1 and words[-2].isdigit():
                plain.add((folder, *words[:-1]))
    return {name for name, own in made.items() if own in plain and len(own) > 1}


def doubts(names: Sequence[str], class_names: Sequence[str], listing: Listing) -> dict[str, str]:
    """What folders may mean otherwise than they were taken for: sides of pairs as classes, one that holds all."""
    if len(class_names) > 1:
        words = [set(words_of(name)) for name in class_names]
        own = [of - words[0].intersection(*words[1:]) for of in words]
        are_halves = all(of and HALVES.issuperset(of) for of in own)
        return {", ".join(class_names): "group of classes that are named like sides of pairs"} if are_halves else {}
    inside = [name.split("/")[:-1] for name in names]
    parts = inside[0][listing.in_tars and listing.path.is_file() :]
    is_plain = all(set(words_of(part)) <= PARTS | PICTURES | FILLERS for part in parts)
    if parts and all(of == inside[0] for of in inside) and not is_plain and parts[-1] != listing.path.stem:
        return {"/".join(parts): f"folder that holds all of them, taken for {'a' if class_names else 'no'} class"}
    return {}


def by_tars(names: list[str], folders: Collection[str], files: Iterable[str]) -> Labelled:
    """By the class folders inside the tars; else by the tars themselves, unless they are the shards of one set."""
    if any("/" in split(name)[1] for name in names):
        inner = {split(folder)[1] for folder in folders} - {""}
        return by_folder([split(name)[1] for name in names], inner, [split(name)[1] for name in files])
    held = {name: split(name)[0] for name in files}
    of_names = [held[name] for name in names]
    tars = sorted(set(held.values()))
    if are_shards(of_names, names):
        return without_classes(len(names))
    labels, classes = by_container(of_names, tars, held, "class tar")
    return labels, tuple(stem(name) for name in classes)


def split(name: str) -> tuple[str, str]:
    """The tar, within its own, that a file lies in, and its name there.

    >>> split("outer.tar/cat.tar/old/0.png")
    ('outer.tar/cat.tar', 'old/0.png')
    """
    parts = name.split("/")
    depth = 2 if len(parts) > 1 and parts[1].lower().endswith(".tar") and len(parts) > 2 else 1
    return "/".join(parts[:depth]), "/".join(parts[depth:])


def stem(tar: str) -> str:
    return re.sub(r"\.tar$", "", tar.split("/")[-1], flags=re.IGNORECASE)


def are_shards(of_names: list[str], names: list[str]) -> bool:
    """Whether tars of pictures without labels or folders are parts of one set, by their names.

    Names without digits are classes, and those of ImageNet's classes; names that differ in digits alone are shards.
    Raises ValueError for others.
    """
    stems = {stem(tar) for tar in of_names}
    if len(stems) == 1:
        return True
    begins = all(name.split("/")[-1].startswith(f"{stem(tar)}_") for tar, name in zip(of_names, names, strict=True))
    if begins or all(map(SYNSET.fullmatch, stems)) or not any(re.search(r"\d", name) for name in stems):
        return False
    if len({re.sub(r"\d+", "0", name) for name in stems}) > 1:
        one, other = sorted(stems)[0], sorted(stems)[-1]
        raise ValueError(
            f"{one}.tar to {other}.tar hold pictures without labels: are they classes or shards? expected names"
            " without digits, names that differ in digits alone, class folders inside, or .cls files"
        )
    return True
