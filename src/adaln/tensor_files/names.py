"""Tensors' names: what wrappers put into them, and how one set of names differs from another."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping

from torch import Tensor

from adaln.registry import nearest

WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module", "_fpw_module")
"""Words that torch.compile, FSDP, activation checkpointing and engines put into names, and nobody else does."""
_INSIDE = re.compile(rf"(?<![^.])(?:{'|'.join(WRAPPERS)}|base_layer|modules_to_save\.\w+)\.")
_PARAMETRISED = re.compile(r"(?<![^.])parametrizations\.(\w+)\.original$")
_HALVES = re.compile(r"(?:.*\.)?(?:\w+_g|parametrizations\.\w+\.(?:original0|\d+\..*))")


def unwrapped(names: Iterable[str]) -> dict[str, str]:
    """The names as the network itself has them, each with the name that it came from, in the same order.

    Taken out, wherever they stand: the words of `WRAPPERS`; "module" where nothing stands beside it (parallel wrappers
    of torch); PEFT's "base_layer" and "modules_to_save.ADAPTER"; a parametrised tensor is its `original`. Both halves
    of a weight norm keep their names: neither is the weight. `ValueError` where two names become one.

    >>> unwrapped(["module._orig_mod.blocks.0._fsdp_wrapped_module.a.base_layer.weight"])
    {'blocks.0.a.weight': 'module._orig_mod.blocks.0._fsdp_wrapped_module.a.base_layer.weight'}
    >>> list(unwrapped(["a.parametrizations.weight.original", "b.module.weight", "b.bias"]))
    ['a.weight', 'b.module.weight', 'b.bias']
    """
    inner = {name: _PARAMETRISED.sub(r"\1", _INSIDE.sub("", name)) for name in names}
    children: dict[str, set[str]] = defaultdict(set)
    for name in set(inner.values()):
        words = name.split(".")
        for depth, word in enumerate(words):
            children[".".join(words[:depth])].add(word)
    clean: dict[str, str] = {}
    for original, name in inner.items():
        words = name.split(".")
        kept = [
            word
            for depth, word in enumerate(words)
            if word != "module" or depth == len(words) - 1 or children[".".join(words[:depth])] != {"module"}
        ]
        other = clean.setdefault(".".join(kept), original)
        if other != original:
            raise ValueError(f"{other!r} and {original!r} are both {'.'.join(kept)!r} without their wrappers")
    return clean


def torn_weights(names: Iterable[str]) -> list[str]:
    """Tensors from which a weight is still to be made: of weight or spectral norm, pruning or others.

    >>> torn_weights(["a.weight_g", "a.weight_v", "b.parametrizations.weight.0._u", "c.weight_g"])
    ['a.weight_g', 'b.parametrizations.weight.0._u']
    """
    known = set(names)
    halves = (
        name for name in known if _HALVES.fullmatch(name) and (not name.endswith("_g") or f"{name[:-1]}v" in known)
    )
    made = (
        name
        for name in known
        if name.endswith("_orig") and {name.removesuffix("orig") + end for end in ("u", "mask")} & known
    )
    return sorted({*halves, *made})


def misfit(expected: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> str:
    """What is missing, unexpected (with the nearest name) or of another shape, block numbers as ranges; "" if nothing.

    >>> import torch
    >>> misfit({f"blocks.{i}.a": torch.empty(2) for i in range(4)}, {"blocks.0.a": torch.empty(3)})
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
        pair = [f"({', '.join(map(str, tensors[name].shape))})" for tensors in (given, expected)]
        if pair[0] != pair[1]:
            names_by_shapes[" for ".join(pair)].append(name)
    return sorted(f"{name} {pair}" for pair, names in names_by_shapes.items() for name in grouped(names))


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
