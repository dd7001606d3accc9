"""Classes that are numbers: what counts as one, and how many there are."""

import unicodedata
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int64

Labelled = tuple[Int64[np.ndarray, "N"], tuple[str, ...]]
"""A label per picture and the names of the classes; no names: the set has no classes and all labels are 0."""
MOST_CLASSES = 100_000
"""More are believed only of a set of as many pictures."""


def whole_number(value: Any, of: str) -> int:
    """The class number that `value` is by its type. Raises ValueError for all else, naming what it is the class `of`.

    >>> whole_number(3, "a.png"), whole_number(3.0, "a.png")
    (3, 3)
    """
    is_whole = type(value) is int or (isinstance(value, float) and value.is_integer())
    if not is_whole or value < 0:
        raise ValueError(f"class {repr(value)[:40]} of {of!r}; expected a whole number, 0 or more")
    return int(value)


def check_distinct(class_names: Sequence[str]) -> None:
    """ValueError where two classes differ only in whether their accents are stored apart, as some systems do."""
    composed: dict[str, str] = {}
    for name in class_names:
        other = composed.setdefault(unicodedata.normalize("NFC", name), name)
        if other != name:
            both = f"{other!a} and {name!a}"
            raise ValueError(f"the classes {both} differ only in how an accent is stored; expected one: rename one")


def numbered(labels: Sequence[int], name_of: Callable[[int], str]) -> Labelled:
    """Classes from 0 to the largest of the labels. Raises ValueError where that is no class number, naming its picture.

    >>> numbered([2, 0], "row {}".format)[1]
    ('0', '1', '2')
    """
    top = max(labels)
    if top >= max(MOST_CLASSES, len(labels)):
        name = name_of(labels.index(top))
        raise ValueError(f"class {str(top)[:40]} of {name!r} is no class number of a set of {len(labels):,} pictures")
    return np.array(labels, np.int64), tuple(str(number) for number in range(top + 1))
