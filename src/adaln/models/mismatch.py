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
    parts = (
        ("missing", missing),
        ("unexpected", [name + nearest(name, choices) for name in unexpected]),
        ("of another shape", _wrong_shapes(expected, given)),
    )
    return "; ".join(f"{word} {', '.join(names)}" for word, names in parts if names)


def _wrong_shapes(expected: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> list[str]:
    names_by_shapes: dict[str, list[str]] = defaultdict(list)
    for name in expected.keys() & given.keys():
        shapes = [f"({', '.join(map(str, tensors[name].shape))})" for tensors in (given, expected)]
        if shapes[0] != shapes[1]:
            names_by_shapes[" for ".join(shapes)].append(name)
    return sorted(f"{name} {shapes}" for shapes, names in names_by_shapes.items() for name in grouped(names))


def grouped(names: Iterable[str]) -> list[str]:
    """Names that differ only in their first number as one.

    >>> grouped(["output.bias", "latent.0.a", "latent.1.a", "latent.3.a", "encoder_level_1.0.a"])
    ['output.bias', 'latent.0-1,3.a', 'encoder_level_1.0.a']
    """
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
    starts = [n for n in numbers if n - 1 not in numbers]
    ends = [n for n in numbers if n + 1 not in numbers]
    return ",".join(f"{a}" if a == b else f"{a}-{b}" for a, b in zip(starts, ends, strict=True))
