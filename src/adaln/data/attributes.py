"""Two classes out of an attribute of CelebA: `PATH#Smiling` is the set at PATH, without and with a smile."""

from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np

from adaln.data.sources import Source
from adaln.registry import nearest

FILES = ("CelebAMask-HQ-attribute-anno.txt", "list_attr_celeba.txt")
"""As CelebAMask-HQ and CelebA name theirs: a count, a line of attributes, then per image its name and 1 or -1 each."""


def split_attribute(path: str) -> tuple[str, str]:
    """`("set", "Smiling")` of `"set#Smiling"`; no attribute if a file or folder bears the whole name."""
    before, mark, attribute = path.rpartition("#")
    if not mark or Path(path).expanduser().exists():
        return path, ""
    return before, attribute


def by_attribute(source: Source, attribute: str) -> Source:
    """The source with classes `not ATTRIBUTE` and `ATTRIBUTE` from the file of attributes in it or beside it."""
    places = [folder / name for folder in (source.path, source.path.parent) for name in FILES]
    file = next((place for place in places if place.is_file()), None)
    if file is None:
        raise ValueError(f"{source.path}: no attributes; expected {' or '.join(FILES)} in it or beside it")
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
