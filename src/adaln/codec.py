"""Between frozen dataclasses and what JSON holds, and JSON text of which equal values give equal bytes.

A dataclass is a table of all its fields, so that nothing is left to a default that may change. A class that
`name_kinds` names says its name as `kind`, by which a field that holds one of several classes is read again.

>>> from dataclasses import dataclass
>>> @dataclass(frozen=True)
... class Optimiser:
...     lr: float
...     betas: tuple[float, float] = (0.9, 0.999)
>>> encode(Optimiser(0.1))
{'lr': 0.1, 'betas': (0.9, 0.999)}
>>> decode(Optimiser, {"lr": "fast"}, "optim")
Traceback (most recent call last):
ValueError: optim.lr is 'fast'; expected a number
"""

import base64
import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from pathlib import PurePath
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np

from adaln.registry import nearest

T = TypeVar("T")

LEFT_OUT_AT_DEFAULT: Mapping[str, bool] = {"left_out_at_default": True}
"""`field(default=..., metadata=LEFT_OUT_AT_DEFAULT)`: a field that is not written while it has its default, so that
what was written before there was such a field keeps its bytes and its hash."""
_SCALARS: Mapping[Any, str] = {
    float: "a number",
    int: "an integer",
    str: "a text",
    bool: "true or false",
    NoneType: "null",
}
_EXACTLY: Mapping[Any, set[type]] = {float: {float, int}, int: {int}, str: {str}, bool: {bool}}
"""What needs no closer look: "nan" is a number too, and a subclass of `int` an integer."""
_KIND_OF: dict[type, str] = {}
_OPEN: dict[Any, dict[str, type]] = {}


def name_kinds(kinds: Mapping[str, type], of: Any = None) -> None:
    """Store values of these classes with their name as `kind`. A field of the type `of` (a base class) holds any of
    them, and of those that are named for it later. `ValueError` for a name that another of them has."""
    for kind, cls in kinds.items():
        if _OPEN.get(of, {}).get(kind, cls) is not cls:
            raise ValueError(f"kind {kind!r} is taken; expected another name of the class in {cls.__module__}")
    _KIND_OF.update({cls: kind for kind, cls in kinds.items()})
    if of is not None:
        _OPEN.setdefault(of, {}).update(kinds)


def encode(value: object, *, finite: bool = False) -> Any:
    """`value` as `json.dumps` takes it.

    `finite` turns numbers that JSON lacks into "nan", "inf" and "-inf", which `decode` takes for numbers. An array
    becomes {shape, dtype, base64} of its bytes in C order.
    """
    match value:
        case None | str() | bool() | int():
            return value
        case float():  # NumPy's too
            return str(float(value)) if finite and not math.isfinite(value) else float(value)
        case np.generic():
            return encode(value.item(), finite=finite)
        case PurePath():
            return str(value)
        case np.ndarray():
            data = base64.b64encode(np.ascontiguousarray(value).tobytes()).decode()
            return {"shape": list(value.shape), "dtype": str(value.dtype), "base64": data}
        case Mapping():
            return {str(key): encode(item, finite=finite) for key, item in value.items()}
        case tuple():
            return tuple(encode(item, finite=finite) for item in value)
        case Sequence() | frozenset() | set():
            return [encode(item, finite=finite) for item in (value if isinstance(value, Sequence) else sorted(value))]
    if not is_dataclass(value):
        raise ValueError(f"cannot write a {type(value).__name__} as JSON; expected plain data, a dataclass or an array")
    cls: Any = type(value)
    kind, left_out = _KIND_OF.get(cls), _left_out(cls)
    held = {name: getattr(value, name) for name in _names(cls)}
    row = {key: encode(v, finite=finite) for key, v in held.items() if key not in left_out or v != left_out[key]}
    return row if kind is None else {"kind": kind, **row}


def decode(hint: type[T], value: Any, where: str = "") -> T:
    """What `encode` made `value` of, a dataclass or anything else of the type `hint`; missing fields have defaults.

    `ValueError` is one line with the dotted name, from `where` on, of what is unknown, missing or of another type.
    """
    made: T = _decode(hint, value, where)
    return made


def changed(value: T, changes: Mapping[str, Any]) -> T:
    """`value`, a dataclass, with other values of the fields that have these dotted names.

    `ValueError` as `decode`.

    >>> from adaln.config import digits
    >>> changed(digits(), {"steps": 10, "optim.lr": 0.01}).optim.lr
    0.01
    >>> changed(digits(), {"optim.lrr": 0.01})  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: unknown field 'lrr' of optim (nearest: 'lr'); known: lr, betas, ...
    """
    row = encode(value)
    for path, new in sorted(changes.items(), key=lambda change: change[0].count(".")):  # whole tables first
        *tables, name = path.split(".")
        table = row
        for part in tables:
            if not isinstance(table := table.setdefault(part, {}), dict):
                raise ValueError(f"{part} has no fields; got {path!r}")
        try:
            table[name] = encode(new)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
    return decode(type(value), row)


def canonical_json(row: Mapping[str, Any]) -> str:
    """Sorted keys, fixed separators, exact floats: equal rows give equal bytes."""
    return json.dumps(row, sort_keys=True, indent=1, allow_nan=False) + "\n"


def json_text(value: object) -> str:
    """`encode(value, finite=True)` in one line, keys in the order of the fields."""
    return json.dumps(encode(value, finite=True), ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def short_hash(row: Mapping[str, Any]) -> str:
    """Ten hex digits over the canonical JSON of `row`."""
    return hashlib.sha256(canonical_json(row).encode()).hexdigest()[:10]


def leaves(row: Mapping[str, Any], separator: str = ".", prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(path, value) of all in nested mappings that is none.

    >>> dict(leaves({"optim": {"lr": 0.1, "betas": (0.9, 0.999)}}))
    {'optim.lr': 0.1, 'optim.betas': (0.9, 0.999)}
    """
    for key, value in row.items():
        path = f"{prefix}{separator}{key}" if prefix else key
        if isinstance(value, Mapping):
            yield from leaves(value, separator, path)
        else:
            yield path, value


@cache
def _names(cls: Any) -> tuple[str, ...]:
    return tuple(f.name for f in fields(cls))


@cache
def _left_out(cls: Any) -> dict[str, Any]:
    marked = (f for f in fields(cls) if f.metadata.get("left_out_at_default"))
    return {f.name: f.default if f.default_factory is MISSING else f.default_factory() for f in marked}


def _decode(hint: Any, value: Any, where: str) -> Any:
    if type(value) in _EXACTLY.get(hint, ()):
        return value
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _decode(args[0], value, where)
    is_array = np.ndarray in (hint, getattr(hint, "array_type", None))  # or jaxtyping's, which knows shape and type
    read = _one_of if kinds_of(hint) else _table if is_dataclass(hint) else _array if is_array else None
    if read:
        return read(hint, value, where)
    if not _fits(hint, value):
        near = nearest(value, args) if origin is Literal and isinstance(value, str) else ""
        raise ValueError(f"{_is(where, value)}; expected {_words(hint)}{near}")
    if origin in (Union, UnionType):
        member = min((arg for arg in args if _fits(arg, value)), key=lambda arg: arg is not float)
        return _decode(member, value, where)
    if _is_a(origin, Sequence):
        if not _is_fixed(hint) and set(map(type, value)) <= _EXACTLY.get(args[0], set()):  # long lists of numbers
            return list(value) if origin is list else tuple(value)
        each = args if _is_fixed(hint) else args[:1] * len(value)
        items = [_decode(arg, item, where) for arg, item in zip(each, value, strict=True)]
        return items if origin is list else tuple(items)
    if _is_a(origin, Mapping):
        return {key: _decode(args[1], item, f"{where}.{key}") for key, item in value.items()}
    return float(value) if hint is float and isinstance(value, str) else value


def _array(_: Any, value: Any, where: str) -> Any:
    if not isinstance(value, Mapping) or value.keys() != {"shape", "dtype", "base64"}:
        raise ValueError(f"{_is(where, value)}; expected an array: shape, dtype and base64")
    flat = np.frombuffer(base64.b64decode(value["base64"]), np.dtype(value["dtype"]))
    return flat.reshape(value["shape"])


def _fits(hint: Any, value: Any) -> bool:
    """Whether `value` may stand for this type, as far as is seen without looking inside."""
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(_fits(arg, value) for arg in args)
    if origin is Literal:
        return value in args
    if kinds := kinds_of(hint):
        return isinstance(value, Mapping) and str(value.get("kind")) in kinds
    if is_dataclass(hint) or _is_a(origin, Mapping):
        return isinstance(value, Mapping)
    if _is_a(origin, Sequence):
        return isinstance(value, list | tuple) and (not _is_fixed(hint) or len(value) == len(args))
    if hint is float:
        return (isinstance(value, int | float) and not isinstance(value, bool)) or value in ("nan", "inf", "-inf")
    return hint not in _SCALARS or (isinstance(value, hint) and isinstance(value, bool) is (hint is bool))


def _one_of(hint: Any, value: Any, where: str) -> Any:
    kinds = kinds_of(hint)
    if not isinstance(value, Mapping) or "kind" not in value:
        raise ValueError(f"{_is(where, value)}; expected {_words(hint)}")
    row = dict(value)
    kind = str(row.pop("kind"))
    if kind not in kinds:
        raise ValueError(f"unknown {where} kind {kind!r}{nearest(kind, kinds)}; known: {', '.join(kinds)}")
    return _table(kinds[kind], row, where)


def _table(cls: Any, value: Any, where: str) -> Any:
    hints, needed = _hints(cls)
    of = where or cls.__name__
    if not isinstance(value, Mapping):
        raise ValueError(f"{_is(where, value)}; expected {_words(cls)}")
    for key in value:
        if key not in hints:
            raise ValueError(f"unknown field {key!r} of {of}{nearest(key, hints)}; known: {', '.join(hints)}")
    if absent := [name for name in needed if name not in value]:
        raise ValueError(f"{of} lacks {', '.join(absent)}; expected {', '.join(hints)}")
    given = {key: _decode(hints[key], item, f"{where}.{key}" if where else key) for key, item in value.items()}
    try:
        return cls(**given)
    except ValueError as error:  # of the class itself, which does not know where it stands
        raise ValueError(str(error) if where in str(error) else f"{where}: {error}") from None


@cache
def _hints(cls: Any) -> tuple[dict[str, Any], list[str]]:
    """The types of the fields, and the names of those without a default."""
    hints = get_type_hints(cls)
    needed = [f.name for f in fields(cls) if f.default is MISSING and f.default_factory is MISSING]
    return {f.name: hints[f.name] for f in fields(cls)}, needed


def kinds_of(hint: Any) -> Mapping[str, type]:
    """The classes that a field of this type may hold, by the `kind` that says which."""
    return _OPEN[hint] if hint in _OPEN else {_KIND_OF[hint]: hint} if hint in _KIND_OF else {}


def _is_a(origin: Any, kind: type) -> bool:
    return isinstance(origin, type) and issubclass(origin, kind)


def _is_fixed(hint: Any) -> bool:
    return get_origin(hint) is tuple and ... not in get_args(hint)


def _is(where: str, value: Any) -> str:
    text = repr(value)
    return f"{where or 'this'} is {text if len(text) <= 60 else f'{text[:60]}…'}"


def _words(hint: Any) -> str:
    """What a value of this type is called in a message."""
    origin, args = get_origin(hint), get_args(hint)
    if kinds := kinds_of(hint):
        return f"a table with a kind: {', '.join(kinds)}"
    if origin is Literal:
        return " or ".join(map(repr, args))
    if origin in (Union, UnionType):
        return " or ".join(map(_words, args))
    if is_dataclass(hint):
        return f"a table of {', '.join(f.name for f in fields(hint))}"
    if _is_a(origin, Sequence):
        return f"a list{f' of {len(args)}' if _is_fixed(hint) else ''}, each {_words(args[0])}"
    return _SCALARS.get(hint, "a table")
