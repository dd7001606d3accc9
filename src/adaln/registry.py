"""Named choices, and one clear answer when a name is not among them; choices that installed packages add.

A package adds entries by the entry points of the group `adaln.plugins`, named `KIND.NAME`, which are read when a
registry is first asked for a name that is not built in, or for all its names. `register` adds one to this process.
"""

import logging
import pickle
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import redirect_stdout
from difflib import get_close_matches
from functools import cache, partial
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar, cast

T = TypeVar("T")
KINDS: Mapping[str, str] = {
    "scheme": "adaln.conditioning.schemes",
    "family": "adaln.conditioning.families",
    "model": "adaln.models.registry",
    "process": "adaln.processes.registry",
    "solver": "adaln.processes.registry",
    "score": "adaln.metrics.names",
    "data": "adaln.data.formats",
    "study": "adaln.studies.choices",
    "tracker": "adaln.training.trackers",
}
"""What can be added from outside, and the module in which the registry of each kind is."""
LISTED = {"family": "adaln families", "model": "adaln models", "study": "adaln study list"}
"""Of the kinds that have more names than one line holds, the command that lists them."""
PLUGINS = "adaln.plugins"
"""The group of entry points."""

_log = logging.getLogger(__name__)
_open: "dict[str, Registry[Any]]" = {}
_registered: dict[tuple[str, str], Any] = {}


class UnknownName(ValueError, KeyError):
    """A name that a user gave is not one of the known ones."""

    __str__ = Exception.__str__  # KeyError would print the message in quotes


class BrokenPlugin(ValueError):
    """A name that a user gave is that of a plug-in that cannot be used."""


class Later(NamedTuple):
    """What an entry is imported from when it is first asked for: `module:NAME`, a mapping that has it."""

    where: str


def nearest(name: str, choices: Iterable[str], most: int = 1) -> str:
    """`" (nearest: 'x')"`, or so many at `most`, or `""` where nothing is near; appended to messages about a name.

    >>> nearest("adaln-zro", ["adaln-zero", "adaln"])
    " (nearest: 'adaln-zero')"
    """
    by_lower = {choice.lower(): choice for choice in choices}
    found = [repr(by_lower[near]) for near in get_close_matches(name.lower(), by_lower, n=most)]
    return f" (nearest: {', '.join(found)})" if found else ""


class Registry(Mapping[str, T], Generic[T]):
    """A mapping of names to entries; a miss names the nearest entry.

    With `accepts`, what an entry must be an instance of (or `module:NAME` of it), it is open to plug-ins of its kind;
    without, nothing is added.

    >>> Registry("colour", {"red": 1, "green": 2})["gren"]
    Traceback (most recent call last):
    adaln.registry.UnknownName: unknown colour 'gren' (nearest: 'green'); known: red, green
    """

    def __init__(
        self,
        kind: str,
        entries: Mapping[str, T | Later],
        accepts: Any = None,
        added: Callable[[T], None] = lambda entry: None,
    ) -> None:
        self.kind = kind
        self._entries: dict[str, Any] = dict(entries)
        self._accepts = accepts
        self._added = added
        self._offered: dict[str, list[EntryPoint]] | None = {} if accepts is None else None  # None: not looked for yet
        self._broken: dict[str, str] = {}
        if accepts is not None:
            _open[kind] = self

    def __getitem__(self, name: str) -> T:
        if name not in self._entries:
            self._load(name)
        if isinstance(entry := self._entries[name], Later):
            entry = self._entries[name] = _imported(entry.where)[name]
        return cast(T, entry)

    def check(self, name: str) -> None:
        """`UnknownName` for one that is not there; nothing is imported to say so."""
        if name not in self:
            self._load(name)

    def __contains__(self, name: object) -> bool:
        return name in self._entries or name in self._offers() or name in self._broken

    def __iter__(self) -> Iterator[str]:
        """The names of all entries but the plug-ins that are broken, each of which is one warning."""
        for name in list(self._offers()):
            try:
                self._load(name)
            except BrokenPlugin as error:
                _log.warning("%s", error)
        return iter(list(self._entries))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def add(self, name: str, entry: T) -> None:
        """See `register`."""
        accepts = _imported(self._accepts) if isinstance(self._accepts, str) else self._accepts
        if not isinstance(entry, accepts):
            raise ValueError(f"{self.kind} {name!r} is a {type(entry).__name__}; expected a {accepts.__name__}")
        if not name or ":" in name or name.split() != [name] or getattr(entry, "name", name) != name:
            raise ValueError(f"{self.kind} {name!r}; expected a word without ':', the same as the entry's own name")
        if name not in self:
            self._added(entry)
            self._entries[name] = entry
        elif self[name] is not entry and self[name] != entry:
            raise ValueError(f"{self.kind} {name!r} is taken; expected a name that is not yet known")

    def _offers(self) -> dict[str, list[EntryPoint]]:
        """The entry points that were not asked for yet, by name."""
        if self._offered is None:
            self._offered = {}
            for kind, name, point in _plugins():
                if kind == self.kind and name in self._entries:
                    _log.warning("%s is left out: the %s %r is taken", _words(point), kind, name)
                elif kind == self.kind:
                    self._offered.setdefault(name, []).append(point)
        return self._offered

    def _load(self, name: str) -> None:
        if points := self._offers().pop(name, None):
            try:
                if len(points) > 1:
                    raise ValueError(f"{_words(points[1])} has the same name")
                with redirect_stdout(sys.stderr):  # what is imported may print, between the lines of a document
                    self.add(name, points[0].load())
            except (Exception, SystemExit) as error:
                reason = " ".join(f"{type(error).__name__}: {error}".split())
                self._broken[name] = f"{_words(points[0])} cannot be used: {reason}"
        if name in self._broken:
            raise BrokenPlugin(self._broken[name])
        if name not in self._entries:
            names = [*self._entries, *self._offers()]
            known = f"known: {', '.join(names) or 'none'}"
            if command := LISTED.get(self.kind):
                known = f"{len(names)} are known, {command} lists them"
            raise UnknownName(f"unknown {self.kind} {name!r}{nearest(name, names, 3 if command else 1)}; {known}")


def register(kind: str, name: str, entry: Any) -> None:
    """Add an entry, for this process and the workers of its studies, to be found by its name like those built in.

    `kind` is one of `KINDS`; what an entry of each must be is a page, docs/extending.md. The same entry may be added
    again. Raises `ValueError` in one line for an unknown kind, an entry of another type, or a name that is taken.

    >>> import adaln
    >>> adaln.register("scheme", "adaln", adaln.Scheme("adaln"))
    Traceback (most recent call last):
    ValueError: scheme 'adaln' is taken; expected a name that is not yet known
    """
    if kind not in KINDS:
        raise ValueError(f"unknown kind {kind!r}{nearest(kind, KINDS)}; known: {', '.join(KINDS)}")
    import_module(KINDS[kind])
    _open[kind].add(name, entry)
    _registered[kind, name] = entry


def with_registered(work: Callable[..., Any]) -> Callable[..., Any]:
    """`work` for another process, where what was registered in this one is registered first.

    Raises `ValueError` for what cannot be handed over: it must be possible to import it there.
    """
    for (kind, name), entry in _registered.items():
        try:
            data = pickle.dumps(entry)
            if b"__main__" in data and not hasattr(sys.modules["__main__"], "__file__"):
                raise ValueError("it is defined in a notebook or prompt")
        except (pickle.PicklingError, AttributeError, TypeError, ValueError) as error:
            raise ValueError(
                f"the {kind} {name!r} was registered here and cannot be handed to a worker process: {error};"
                " expected one defined in a module that can be imported"
            ) from None
    return partial(_register_and_do, dict(_registered), work) if _registered else work


def code_named(target: str) -> Callable[..., Any]:
    """The function or class that a user has named, `module:function`; the working folder is searched first.

    Raises `ValueError` in one line for what is not there, what its module raises, or what cannot be called.
    """
    check_no_code_file(target)
    module_name, _, name = target.partition(":")
    if not module_name or not name:
        raise ValueError(f"{target!r}; expected module:function")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    try:
        with redirect_stdout(sys.stderr):
            module = import_module(module_name)
    except (Exception, SystemExit) as error:  # whatever the user's own code raises
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        is_missing = isinstance(error, ModuleNotFoundError) and error.name == module_name
        raise ValueError(f"{target!r} {'is not there' if is_missing else 'cannot be imported'}: {reason}") from error
    if not hasattr(module, name):
        near = nearest(name, [other for other in vars(module) if not other.startswith("_")])
        raise ValueError(f"{target!r} is not there: no {name!r} in {module_name!r}{near}")
    function = getattr(module, name)
    if not callable(function):
        raise ValueError(f"{target!r} is a {type(function).__name__}; expected a function")
    return cast(Callable[..., Any], function)


def check_no_code_file(name: str) -> None:
    """`ValueError` for a file of Python, with or without its suffix, where the code in it goes by `module:function`."""
    file, _, function = name.partition(":")
    place = Path(file) if file.endswith(".py") else Path(f"{file}.py")
    if place.name == Path(file).name or (file == name and place.is_file()):
        inside = place.parent if place.is_absolute() or ".." in place.parts else Path()
        module = ".".join(place.relative_to(inside).with_suffix("").parts)
        where = f", in the folder {str(inside)!r}" if inside != Path() else ""
        raise ValueError(
            f"{name!r} names a file of Python; expected its module and a function in it, such as"
            f" {module}:{function or 'build'}{where}"
        )


@cache
def _plugins() -> list[tuple[str, str, EntryPoint]]:
    """Kind, name and entry point of what the installed packages offer."""
    offered = [(*point.name.partition(".")[::2], point) for point in entry_points(group=PLUGINS)]
    for kind, _, point in offered:
        if kind not in KINDS:
            _log.warning("%s is left out: unknown kind %r%s", _words(point), kind, nearest(kind, KINDS))
    return offered


def _register_and_do(registered: Mapping[tuple[str, str], Any], work: Callable[..., Any], *arguments: Any) -> Any:
    for (kind, name), entry in registered.items():
        register(kind, name, entry)
    return work(*arguments)


def _imported(where: str) -> Any:
    module, _, name = where.partition(":")
    return getattr(import_module(module), name)


def _words(point: EntryPoint) -> str:
    return f"plug-in {point.name!r} of {point.dist.name if point.dist else 'an unnamed distribution'}"
