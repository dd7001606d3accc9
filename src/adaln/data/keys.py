"""Files that belong together by their names: a picture, what is kept beside it, and the file that holds its class.

Source: https://github.com/webdataset/webdataset, "The WebDataset Format": a key ends at the first dot of the last part.
"""

import re
from collections import defaultdict
from collections.abc import Iterable
from filecmp import cmp
from pathlib import Path

from adaln.data.listing import Listing

CLASS = ".cls"
MOST_OF = 100_000
"""More parts than these no set is said to have."""
COPY = re.compile(
    r"(?:copy of )?(.+?)"
    r"(?: ?\(\d+\)| ?- ?copy(?: \(\d+\))?| copy(?: \d+)?|(?<=\d)[-_. ](?:old|copy|bak|backup|orig)\d*)?",
    re.IGNORECASE,
)
"""How systems and people call a copy: `a (1)`, `a - Copy`, `a copy 2`, `Copy of a`; behind a number also `a-0_old`."""
THUMBNAILS = re.compile(r"(?:^|(.*)/)[_.]?thumb(?:s|nails?)?/", re.IGNORECASE)
HEAD_BYTES = 4096
"""By which files are told apart before they are compared."""
SECOND, MISSING = "more pictures of one key", "missing among numbered ones"
TWICE = "of the same bytes as another, counted like it"


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
    lone: list[str] = []
    for key, group in groups.items():
        plain = [name for name in group if keys(name)[0] == key]
        others = [name for name in group if name not in plain and (file_of or word(name).isalpha())]
        if len(plain) == 1:
            passed |= dict.fromkeys(others, SECOND)
        elif len(group) > 1 and (file_of or plain or len(others) == len(group)):
            raise ValueError(f"{key!r} has several pictures ({', '.join(group[:3])}); expected one, or a plain {key}.*")
        elif not file_of:
            lone += others
    if wrong := [name for name in lone if word(name) in set(map(word, passed))]:
        raise ValueError(f"{wrong[0]!r} has no plain picture of its key beside it, others have; expected one of each")
    return [name for name in names if name not in passed], passed


def missing(names: Iterable[str], first: int | None = None) -> list[str]:
    """Names that would fill the gaps of a numbering, from `first` on (None: from 0 where that is there, else from 1).

    Numbers of which fewer than half are there are no numbering; `1-of-3` says how many there are.

    >>> missing(["a-00.tar", "a-02.tar"]), missing(["1-of-3.tar", "2-of-3.tar"]), missing(["n018.tar", "n441.tar"])
    (['a-01.tar'], ['3-of-3.tar'], [])
    """
    numbers: dict[str, dict[int, re.Match[str]]] = defaultdict(dict)
    for name in sorted(names):
        for match in re.finditer(r"\d+", name):
            numbers[name[: match.start()]].setdefault(int(match[0]), match)
    gaps = []
    for before, there in numbers.items():
        match = there[min(there)]
        low, high = min(1, *there), max(there)
        of = re.match(r"[-_. ]*of[-_. ]*(\d+)", match.string[match.end() :], re.IGNORECASE)
        if of:
            high = max(high, low + int(of[1]) - 1)
        whole = range(low if first is None else first, high + 1)
        if len(whole) <= 2 * len(there) or (of and len(whole) < MOST_OF):
            width, after = len(match[0]), match.string[match.end() :]
            gaps += [f"{before}{number:0{width}}{after}" for number in whole if number not in there]
    return gaps


def small_copies(names: Iterable[str]) -> set[str]:
    """The pictures in a folder of thumbnails that lies beside pictures; one beside folders alone is a class."""
    names = list(names)
    holding = {name.rpartition("/")[0] for name in names}
    return {name for name in names if (match := THUMBNAILS.match(name)) and (match[1] or "") in holding}


def refuse_copies(folder: Path, names: Iterable[str]) -> None:
    """ValueError where a file is called a copy of another beside it, for all that it holds would count twice."""
    stems = {Path(name).stem: name for name in sorted(names)}
    for stem, name in stems.items():
        match = COPY.fullmatch(stem)
        if match and match[1] != stem and match[1] in stems:
            raise ValueError(f"{folder / name}: is called a copy of {stems[match[1]]!r}; remove or rename one of them")


def of_same_bytes(files: Iterable[Path]) -> list[str]:
    """Names of the files that hold the same bytes as one before them."""
    alike: dict[tuple[int, bytes], list[Path]] = defaultdict(list)
    twins = []
    for path in sorted(files):
        with path.open("rb") as file:
            known = alike[path.stat().st_size, file.read(HEAD_BYTES)]
        if any(cmp(other, path, shallow=False) for other in known):
            twins.append(path.name)
        else:
            known.append(path)
    return twins


def word(name: str) -> str:
    """`seg` of `0.seg.png`; "" of `0.png`."""
    return re.sub(r"[\d_-]+$", "", keys(name)[0][len(shortest(name)) + 1 :])
