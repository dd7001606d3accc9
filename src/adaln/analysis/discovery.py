"""A family out of a live network that nobody has described: what its rows do, by behaviour, as lines of a row.

What `probe` sees of one network becomes `Layer`s by the numbers in its names, so that the lines hold for the same
network at any depth and width.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import nn

from adaln.analysis.probe import Seen, of_one_role, probe
from adaln.conditioning import Family, Layer, UnknownLayout
from adaln.types import as_rows


def discover(model: nn.Module, inputs: Mapping[str, Any]) -> Family:
    """The family of a network, from what its rows do in forward passes on `inputs`; no name is known or needed.

    `adaln.conditioning.family_text` writes it as a layout file, which is taken wherever a family is. The network is as
    it was afterwards. Raises `UnknownLayout` where nothing modulates, or where a layer's rows are not all seen.
    """
    seen = of_one_role(probe(model, inputs))
    if not seen:
        raise UnknownLayout(f"nothing in {type(model).__name__} shifts, scales or gates its tokens by a condition")
    by_tensor: dict[str, list[Seen]] = defaultdict(list)
    for one in seen:
        by_tensor[one.tensor].append(one)
    shared = {name: stages_of(those) for name, those in by_tensor.items() if _is_shared(name, those)}
    tabled = any(not name.endswith(".weight") and _number(name) for name in by_tensor)
    layers = {_line(model, name, those, "" if tabled else shared.get(name, "")) for name, those in by_tensor.items()}
    in_order = {
        layer: None
        for name, those in by_tensor.items()
        for layer in [_line(model, name, those, "" if tabled else shared.get(name, ""))]
    }
    assert layers == set(in_order)
    heads = dict.fromkeys(one.branch for one in seen if _is_last(one))
    return Family(tuple(in_order), head=" ".join(filter(None, heads)))


def _is_shared(tensor: str, seen: Sequence[Seen]) -> bool:
    return not _number(tensor) and any(_number(f"{one.block}.") for one in seen)


def stages_of(seen: Iterable[Seen]) -> str:
    """Stages, in words, in whose blocks rows act."""
    return " ".join(dict.fromkeys(one.block.rpartition(".")[0] for one in seen if _number(f"{one.block}.")))


def _is_last(seen: Seen) -> bool:
    return not _number(f"{seen.block}.")


def _number(name: str) -> re.Match[str] | None:
    """Where the number of the block is in the name of something inside one."""
    return re.match(r"[^.]*?(?:\.[^.\d]+)*?\.(\d+)\.", name)


def _line(model: nn.Module, tensor: str, seen: Sequence[Seen], shared_by: str) -> Layer:
    parameter = as_rows(model.get_parameter(tensor))
    chunks = {one.rows.start: one for one in sorted(seen, key=lambda one: one.rows.start)}
    widths = [one.rows.stop - one.rows.start for one in chunks.values()]
    if sum(widths) != len(parameter):
        raise UnknownLayout(
            f"only {sum(widths)} of the {len(parameter)} rows of {tensor!r} were seen to do anything; expected all"
        )
    block, is_table = next(iter(chunks.values())).block, not tensor.endswith(".weight")
    rows, branches = "", ["final" if _is_last(one) else one.branch.replace(".", "_") for one in chunks.values()]
    for branch, before, one in zip(branches, ["", *branches], chunks.values(), strict=False):
        rows += ("" if branch == before else f"; {branch}:") + f" {one.role.name.lower()}"
        rows += f"({one.function})" if one.function else ""
    width_of = "" if is_table and parameter.ndim > 1 else _witness(model, block, set(widths))
    name = tensor.removesuffix(".weight")
    if match := _number(tensor):
        name = f"{name[: match.start(1)]}N{name[match.end(1) :]}"
    return Layer(name, rows.removeprefix("; "), "table" if is_table else "matrix", width_of, shared_by)


def _witness(model: nn.Module, block: str, widths: set[int]) -> str:
    """A matrix of the block that takes as many values as a chunk has rows; "rows" where all chunks are as wide."""
    if len(widths) == 1:
        return "rows"
    raise UnknownLayout(f"the chunks of {block!r} have {len(widths)} widths, {sorted(widths)}; describe them by hand")
