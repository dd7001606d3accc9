"""What does not fit when tensors meet a network: one line, however many blocks there are."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping

from torch import Tensor

from adaln.registry import nearest


def mismatches(expected: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> str:
    """What is missing, unexpected (with the nearest name) or of another shape, block numbers as ranges; "" if nothing.

    >>> import torch
    >>> mismatches({f"blocks.{i}.a": torch.empty(2) for i in range(4)}, {"blocks.0.a": torch.empty(3)})
    'missing blocks.1-3.a; of another shape blocks.0.a (3) for (2)'
    """
    missing = grouped(name for name in expected if name not in given)
    unexpected = grouped(name for name in given if name not in expected)
    choices = missing or grouped(expected)
    shapes: dict[str, str] = {
        name: f"({', '.join(map(str, given[name].shape))}) for ({', '.join(map(str, expected[name].shape))})"
        for name in expected
        if name in given and given[name].shape != expected[name].shape
    }
    kinds = {
        shape: grouped(name for name in shapes if shapes[name] == shape) for shape in dict.fromkeys(shapes.values())
    }
    parts = (
        ("missing", missing),
        ("unexpected", [name + nearest(name, choices) for name in unexpected]),
        ("of another shape", [f"{name} {shape}" for shape, names in kinds.items() for name in names]),
    )
    return "; ".join(f"{word} {', '.join(names)}" for word, names in parts if names)


def grouped(names: Iterable[str]) -> list[str]:
    """Names that differ only in their first number as one: "blocks.0-27.attn.qkv.weight"."""
    groups: dict[tuple[str, str], list[int]] = defaultdict(list)
    plain: list[str] = []
    for name in names:
        numbered = re.fullmatch(r"(.*?\.)(\d+)(\..*)", name)
        if numbered:
            groups[numbered[1], numbered[3]].append(int(numbered[2]))
        else:
            plain.append(name)
    return plain + [f"{head}{_ranges(sorted(numbers))}{tail}" for (head, tail), numbers in groups.items()]


def _ranges(numbers: list[int]) -> str:
    """
    >>> _ranges([0, 1, 2, 5])
    '0-2,5'
    """
    starts = [n for n in numbers if n - 1 not in numbers]
    ends = [n for n in numbers if n + 1 not in numbers]
    return ",".join(f"{a}" if a == b else f"{a}-{b}" for a, b in zip(starts, ends, strict=True))
