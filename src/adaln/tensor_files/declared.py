"""What a network's config says of its blocks, held against those in a file: fewer are a part of the network."""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from adaln.files import reading

_COUNT = re.compile(r"(?:num|n)_?(?:\w+_)?(?:layers?|blocks?)|(?:\w+_)?depth(?:_\w+)?")
_ITEM = re.compile(r"((?:\w+\.)*?(\w+))\.(\d+)\.\w+\.")
_PLAIN = {
    *("num", "n", "nlayers", "nblocks", "layer", "layers", "block", "blocks", "depth", "hidden", "transformer")
} | {*("dit", "mmdit", "double", "joint", "stream")}
"""Words of counts and of lists of blocks that set none apart from others."""


def refuse_fewer(file: Path, names: Iterable[str]) -> None:
    """`ValueError` where blocks are missing that the config.json beside a file of weights counts, or between others."""
    lists = lists_of_blocks(names)
    for name, numbers in lists.items():
        is_counted = _kind(name.rpartition(".")[2]) <= {"single"}  # others may stand in some blocks only
        if is_counted and (gaps := sorted(set(range(max(numbers))) - numbers)):
            raise ValueError(f"holds {name}.{max(numbers)} and no {name}.{gaps[0]}: a part of the network")
    beside = file.with_name("config.json")
    if not beside.is_file():
        return
    with reading(beside, "the config of a network"):
        settings = json.loads(beside.read_text(encoding="utf-8"))
    for key, count in counts_in(settings).items():
        if too_few := fewer(key, count, lists):
            raise ValueError(
                f"{str(beside)!r} says {key} {count}, and the weights hold {too_few}: a part of the network"
            )


def are_parts(names: Iterable[str], others: Iterable[str]) -> bool:
    """Whether two files hold parts of one network: of a list of blocks that both have, other blocks or other tensors.

    >>> are_parts(["blocks.0.a.weight", "norm.weight"], ["blocks.1.a.weight", "norm.weight"])
    True
    >>> are_parts(["blocks.0.a.weight"], ["blocks.0.a.weight", "blocks.1.a.weight"])  # another checkpoint
    False
    """
    own, other = set(names), set(others)
    lists, other_lists = lists_of_blocks(own), lists_of_blocks(other)
    common = lists.keys() & other_lists.keys()
    return any(lists[name].isdisjoint(other_lists[name]) for name in common) or bool(common and own.isdisjoint(other))


def lists_of_blocks(names: Iterable[str]) -> dict[str, set[int]]:
    """The numbers in every list of blocks or layers that is in no other list, by its name.

    >>> lists_of_blocks(["net.blocks.0.attn.weight", "net.blocks.1.attn.weight", "mlp.0.weight"])
    {'net.blocks': {0, 1}}
    """
    lists: dict[str, set[int]] = defaultdict(set)
    for name in names:
        if (match := _ITEM.match(name)) and re.search(r"(?:block|layer)s?$", match[2]):
            lists[match[1]].add(int(match[3]))
    return dict(lists)


def counts_in(settings: Any) -> dict[str, int]:
    """What a config says of numbers of blocks, by the word that it has for it."""
    entries = settings.items() if isinstance(settings, Mapping) else ()
    return {key: value for key, value in entries if type(value) is int and _COUNT.fullmatch(key)}


def fewer(key: str, count: int, lists: Mapping[str, set[int]]) -> str:
    """Where all lists of the kind that a setting counts are shorter, the longest in words; "" otherwise.

    >>> fewer("num_single_layers", 3, {"transformer_blocks": {0, 1, 2}, "single_transformer_blocks": {0, 1}})
    '2 single_transformer_blocks'
    >>> fewer("num_layers", 2, {"blocks": {0, 1}}), fewer("num_text_layers", 9, {"blocks": {0, 1}})
    ('', '')
    """
    kind = _kind(key)
    alike = {name: len(numbers) for name, numbers in lists.items() if _is_of(kind, _kind(name.rpartition(".")[2]))}
    if not alike:
        return "no such block" if kind == {"single"} and count and lists else ""
    longest = max(alike, key=lambda name: alike[name])
    return f"{alike[longest]} {longest}" if alike[longest] < count else ""


def _kind(words: str) -> set[str]:
    return set(words.lower().split("_")) - _PLAIN


def _is_of(kind: set[str], other: set[str]) -> bool:
    return kind <= other if kind else not other
