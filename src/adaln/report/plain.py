"""From frozen dataclasses to JSON."""

import base64
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

Plain = dict[str, Any] | list[Any] | str | int | float | None
"""What `json.dumps(..., allow_nan=False)` takes."""


def plain(value: object) -> Plain:
    """`value` as JSON-able data.

    A dataclass becomes a dict with its class name under "kind"; NaN and the infinities, which JSON lacks, become the
    strings "nan", "inf", "-inf"; an array becomes {shape, dtype, base64} of its bytes in C order.
    """
    match value:
        case None | str() | bool() | int():
            return value
        case float():
            return value if math.isfinite(value) else str(value)
        case np.ndarray():
            data = base64.b64encode(np.ascontiguousarray(value).tobytes()).decode()
            return {"shape": list(value.shape), "dtype": str(value.dtype), "base64": data}
        case Mapping():
            return {str(key): plain(item) for key, item in value.items()}
        case Sequence() | frozenset() | set():
            return [plain(item) for item in (value if isinstance(value, Sequence) else sorted(value))]
    if is_dataclass(value):
        return {"kind": type(value).__name__} | {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    raise ValueError(f"cannot write a {type(value).__name__} as JSON; expected plain data, a dataclass or an array")


def json_text(value: object) -> str:
    """`plain(value)` as compact JSON with its keys in the order of the fields."""
    return json.dumps(plain(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
