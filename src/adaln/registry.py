"""Named choices, and one clear answer when a name is not among them."""

from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Generic, TypeVar

T = TypeVar("T")


class UnknownName(ValueError, KeyError):
    """A name that a user gave is not one of the known ones."""

    __str__ = Exception.__str__  # KeyError would print the message in quotes


def nearest(name: str, choices: Iterable[str]) -> str:
    """`" (nearest: 'x')"`, or `""` where nothing is near; appended to messages about a name.

    >>> nearest("adaln-zro", ["adaln-zero", "adaln"])
    " (nearest: 'adaln-zero')"
    """
    by_lower = {choice.lower(): choice for choice in choices}
    found = get_close_matches(name.lower(), by_lower, n=1, cutoff=0.4)
    return f" (nearest: {by_lower[found[0]]!r})" if found else ""


class Registry(Mapping[str, T], Generic[T]):
    """An immutable mapping of names to entries; a miss names the nearest entry.

    >>> Registry("colour", {"red": 1, "green": 2})["gren"]
    Traceback (most recent call last):
    adaln.registry.UnknownName: unknown colour 'gren' (nearest: 'green'); known: red, green
    """

    def __init__(self, kind: str, entries: Mapping[str, T]) -> None:
        self.kind = kind
        self._entries = dict(entries)

    def __getitem__(self, name: str) -> T:
        if name not in self._entries:
            known = ", ".join(self._entries)
            raise UnknownName(f"unknown {self.kind} {name!r}{nearest(name, self)}; known: {known}")
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)
