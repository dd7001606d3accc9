"""Schemes as words and as files: a name, `name:std`, or JSON or TOML of role x block -> distribution.

name = "mine"
[gate]
weight = {kind = "normal", std = 8e-4}
[[scale]]                                   # a list: one start per block, in forward order
weight = {kind = "laplace", std = 1e-3}
"""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from adaln.conditioning.distributions import distribution_from_dict, distribution_to_dict
from adaln.conditioning.schemes import PARAMETRIC, SCHEMES, Scheme, Start, Starts
from adaln.registry import nearest

_STARTS = ("gate", "scale", "shift", "final_scale", "final_shift", "head")
_BLOCKWISE = ("gate", "scale", "shift")


def scheme(spec: str) -> Scheme:
    """The scheme that a name, `name:std[,std,...]` or a .json/.toml file means.

    Raises `ValueError` naming the nearest known scheme, or what is wrong with the parameters or the file.
    """
    name, has_parameters, parameters = spec.partition(":")
    if spec.endswith((".json", ".toml")):
        return load_scheme(Path(spec))
    if not has_parameters:
        return SCHEMES[spec]
    family = PARAMETRIC[name]
    try:
        stds = [float(value) for value in parameters.split(",")]
        if not all(0 <= std < float("inf") for std in stds):
            raise ValueError
        return family(*stds)
    except (ValueError, TypeError):
        count = "1 to 3 standard deviations" if name == "adaln-gaussian" else "1 standard deviation"
        raise ValueError(f"scheme {spec!r}: {name} takes {count} >= 0, e.g. '{name}:1e-3'") from None


def scheme_to_dict(scheme: Scheme) -> dict[str, Any]:
    """A JSON-able row, complete: nothing is left to a default that may change.

    `branch_ends` stands only where a scheme names it: it came later, and rows without it keep their hash.
    """

    def starts_to(starts: Starts) -> Any:
        return _start_to(starts) if isinstance(starts, Start) else [_start_to(start) for start in starts]

    return {
        "name": scheme.name,
        **{role: starts_to(getattr(scheme, role)) for role in _STARTS},
        "backbone": distribution_to_dict(scheme.backbone) if scheme.backbone else None,
        **({"branch_ends": distribution_to_dict(scheme.branch_ends)} if scheme.branch_ends else {}),
        "order_of": scheme.order_of,
        "note": scheme.note,
    }


def scheme_from_dict(row: Mapping[str, Any], default_name: str = "unnamed") -> Scheme:
    """The inverse of `scheme_to_dict`; what is missing starts at zero. `ValueError` names what does not belong."""
    known = [field.name for field in fields(Scheme)]
    for key in row:
        if key not in known:
            raise ValueError(f"unknown field {key!r} of a scheme{nearest(key, known)}; known: {', '.join(known)}")
    if row.get("order_of") is not None:
        SCHEMES[row["order_of"]]  # an unknown name is an error here, not in the middle of a run
    plain = Scheme(
        name=str(row.get("name", default_name)),
        backbone=distribution_from_dict(row["backbone"]) if row.get("backbone") else None,
        branch_ends=distribution_from_dict(row["branch_ends"]) if row.get("branch_ends") else None,
        order_of=row.get("order_of"),
        note=str(row.get("note", "")),
    )
    starts: dict[str, Any] = {role: _starts_from(role, row[role]) for role in _STARTS if role in row}
    return replace(plain, **starts)


def load_scheme(path: Path) -> Scheme:
    """Read a scheme file; `ValueError` names the file and what is wrong with it."""
    try:
        text = path.read_text(encoding="utf-8")
        row = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
        if not isinstance(row, dict):
            raise ValueError("expected a table of roles")
        return scheme_from_dict(row, default_name=path.stem)
    except FileNotFoundError:
        raise ValueError(f"scheme file {str(path)!r} does not exist") from None
    except ValueError as error:  # JSON, TOML and UTF-8 errors are ValueErrors too
        raise ValueError(f"scheme file {str(path)!r}: {error}") from None


def save_scheme(scheme: Scheme, path: Path) -> None:
    """Write a scheme as JSON, to be used as `--scheme FILE`."""
    path.write_text(json.dumps(scheme_to_dict(scheme), indent=2) + "\n", encoding="utf-8")


def _start_to(start: Start) -> dict[str, Any]:
    return {
        "weight": distribution_to_dict(start.weight),
        "bias": distribution_to_dict(start.bias),
        "opens": start.opens,
    }


def _starts_from(role: str, value: Any) -> Starts:
    if isinstance(value, list):
        if role not in _BLOCKWISE or not value:
            raise ValueError(f"{role} takes one start; only {', '.join(_BLOCKWISE)} take one per block")
        return tuple(_start_from(role, item) for item in value)
    return _start_from(role, value)


def _start_from(role: str, value: Any) -> Start:
    if not isinstance(value, Mapping):
        raise ValueError(f"{role} expects a table with weight, bias, opens; got {value!r}")
    known = ("weight", "bias", "opens")
    for key in value:
        if key not in known:
            raise ValueError(f"unknown field {key!r} of {role}{nearest(key, known)}; known: {', '.join(known)}")
    opens = value.get("opens", 0)
    if opens is not None and (isinstance(opens, bool) or not isinstance(opens, int) or opens < 0):
        raise ValueError(f"{role}.opens expects a step >= 0 or null (held for ever), got {opens!r}")
    parts = {key: distribution_from_dict(value[key]) for key in ("weight", "bias") if key in value}
    return Start(**parts, opens=opens)
