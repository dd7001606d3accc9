"""Schemes as words and as files: a name, `name:std`, or JSON or TOML of role x block -> distribution.

name = "mine"
[gate]
weight = {kind = "normal", std = 8e-4}
[[scale]]                                   # a list: one start per block, in forward order
weight = {kind = "laplace", std = 1e-3}
"""

import json
import tomllib
from pathlib import Path

from adaln.codec import decode, encode
from adaln.conditioning.schemes import PARAMETRIC, SCHEMES, Scheme


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


def load_scheme(path: Path) -> Scheme:
    """Read a scheme file; `ValueError` names the file and what is wrong with it."""
    try:
        text = path.read_text(encoding="utf-8")
        row = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
        if not isinstance(row, dict):
            raise ValueError("expected a table of roles")
        found = decode(Scheme, {"name": path.stem, **row})
        if found.order_of is not None:
            SCHEMES[found.order_of]  # an unknown name is an error here, not in the middle of a run
        return found
    except FileNotFoundError:
        raise ValueError(f"scheme file {str(path)!r} does not exist") from None
    except ValueError as error:  # JSON, TOML and UTF-8 errors are ValueErrors too
        raise ValueError(f"scheme file {str(path)!r}: {error}") from None


def save_scheme(scheme: Scheme, path: Path) -> None:
    """Write a scheme as JSON, to be used as `--scheme FILE`."""
    path.write_text(json.dumps(encode(scheme), indent=2) + "\n", encoding="utf-8")
