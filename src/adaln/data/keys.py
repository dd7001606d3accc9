"""Files that belong together by their names: a picture, what is kept beside it, and the file that holds its class.

Source: https://github.com/webdataset/webdataset, "The WebDataset Format": a key ends at the first dot of the last part.
"""

import re
from collections import defaultdict
from collections.abc import Iterable

from adaln.data.listing import Listing

CLASS = ".cls"
SECOND = "more pictures of one key"


def class_files(names: Iterable[str], listing: Listing) -> dict[str, str]:
    """The file beside each picture that bears its longest name: `img 0.5.cls`, else `img 0.cls`, of `img 0.5.png`.

    Empty where there are none; where only a picture lacks one, the name that it should have.
    """
    files = {name[: -len(CLASS)]: name for name in listing.stamps if name.lower().endswith(CLASS)}
    if not files:
        return {}
    return {name: next((files[key] for key in keys(name) if key in files), shortest(name) + CLASS) for name in names}


def keys(name: str) -> list[str]:
    """The name without its ending, and cut at each dot before, the longest first.

    >>> keys("v1.0/img 0.5.png")
    ['v1.0/img 0.5', 'v1.0/img 0']
    """
    folder, slash, last = name.rpartition("/")
    parts = last.split(".")
    return [folder + slash + ".".join(parts[:number]) for number in range(len(parts) - 1, 0, -1)]


def shortest(name: str) -> str:
    """The key of WebDataset."""
    return keys(name)[-1]


def one_of_each_key(listing: Listing) -> tuple[list[str], dict[str, str]]:
    """The pictures, and why others are passed over: `0.seg.png` beside `0.png` is no picture of the set.

    Raises ValueError where none of several pictures of a key is the plain one, as of `0.left.png` and `0.right.png`.
    """
    names = listing.pictures
    file_of = class_files(names, listing)
    groups: dict[str, list[str]] = defaultdict(list)
    for name in names if file_of or listing.in_tars else ():
        groups[file_of[name][: -len(CLASS)] if file_of else shortest(name)].append(name)
    passed: dict[str, str] = {}
    alike = len({tuple(sorted(map(word, group))) for group in groups.values()}) == 1
    for key, group in groups.items():
        plain = [name for name in group if keys(name)[0] == key]
        others = [name for name in group if name not in plain and (file_of or word(name).isalpha())]
        if len(plain) == 1 or (len(group) == 1 and file_of):
            passed |= dict.fromkeys(others if plain else (), SECOND)
        elif len(group) > 1 and (file_of or (alike and len(others) == len(group))):
            raise ValueError(f"{key!r} has several pictures ({', '.join(group[:3])}); expected one, or a plain {key}.*")
    return [name for name in names if name not in passed], passed


def word(name: str) -> str:
    """`seg` of `0.seg.png`; "" of `0.png`."""
    return re.sub(r"[\d_-]+$", "", keys(name)[0][len(shortest(name)) + 1 :])
