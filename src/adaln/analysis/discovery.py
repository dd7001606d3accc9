"""A family out of a live network that nobody has described: what its rows do, by behaviour, as lines of a row.

What `probe` sees of one network becomes `Layer`s, with `N` for the numbers of blocks, so that the lines hold for the
same network at any depth and width.
"""

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from adaln.analysis.operations import Running
from adaln.analysis.probe import Seen, of_one_role, probe
from adaln.conditioning import Family, Layer, UnknownLayout, find_layout
from adaln.conditioning.family import chunks
from adaln.tensor_files import unwrapped
from adaln.types import as_rows


def discover(model: nn.Module, inputs: Mapping[str, Any]) -> Family:
    """The family of a network, from what its rows do in forward passes on `inputs`; no name is known or needed.

    `adaln.conditioning.family_text` writes it as a layout file, which is taken wherever a family is. The network is as
    it was afterwards. What is named like modulation and was at work as something else is in the family's `no_rows`;
    what did not run is not, and is refused by name until somebody says what it is.
    Raises `UnknownLayout` where nothing modulates, or where some rows of a layer are not seen.
    """
    seen_of: dict[str, list[Seen]] = defaultdict(list)
    for one in of_one_role(probe(model, inputs)):
        seen_of[one.tensor].append(one)
    if not seen_of:
        raise UnknownLayout(f"nothing in {type(model).__name__} shifts, scales or gates its tokens by a condition")
    layers = _without_repeats(_line(model, tensor, seen) for tensor, seen in seen_of.items())
    in_order = [one for seen in seen_of.values() for one in seen]
    after = 1 + max((place for place, one in enumerate(in_order) if _is_in_a_block(one)), default=-1)
    last = dict.fromkeys(_module(model, one) for one in in_order[after:] if not _is_in_a_block(one))
    ran = Running(model, inputs)
    last = last or dict.fromkeys([_last_map(model, ran, in_order)])
    only_last = all(layer.rows.startswith("final") for layer in layers)
    signs = f"^{re.escape(layers[0].name)}" if only_last else ""
    family = Family(layers, head=" ".join(filter(None, last)), signs=signs)
    unread = find_layout(model, family, allow_unread=True).unread
    innocent = [name for name in unread if _has_run(model, name, ran.names)]
    parts = dict.fromkeys(re.sub(r"\.\d+\.", ".N.", unwrapped_name(name)) for name in innocent)
    return replace(family, no_rows=" ".join(parts))


def _last_map(model: nn.Module, ran: Running, seen: Iterable[Seen]) -> str:
    """The map that runs last, if it modulates nothing, is part of no block and none of a list's (a ControlNet's exits):
    what becomes the output."""
    blocks = tuple(f"{one.block}." for one in seen if _is_in_a_block(one))
    modulates = {one.tensor.removesuffix(".weight") for one in seen}
    is_listed = isinstance(model.get_submodule(ran.last_map.rpartition(".")[0]), nn.ModuleList)
    return "" if is_listed or ran.last_map in modulates or ran.last_map.startswith(blocks) else ran.last_map


def _without_repeats(lines: Iterable[Layer]) -> tuple[Layer, ...]:
    """One line for each name and what its rows do, though branches may be called otherwise in another block."""
    first: dict[tuple[object, ...], Layer] = {}
    for line in lines:
        first.setdefault((line.name, *(chunk[1:] for chunk in chunks(line.rows))), line)
    return tuple(first.values())


def _has_run(model: nn.Module, name: str, ran: Collection[str]) -> bool:
    """Whether a tensor was at work where nothing was seen of it, so that it is no modulation.

    A norm's own weights are none, whether its module or a function of its owner ran.
    """
    tensor = dict(model.named_parameters()).get(name)
    is_a_norms = tensor is not None and tensor.ndim < 2 and name.endswith(".weight")
    return name.rpartition(".")[0] in ran or is_a_norms


def unwrapped_name(name: str) -> str:
    """Name of the module of a tensor as the network itself has it, of a bare parameter its own."""
    return next(iter(unwrapped([name]))).removesuffix(".weight").removesuffix(".bias")


def _module(model: nn.Module, seen: Seen) -> str:
    """Full name of the module that the modulated tokens enter."""
    inside = f"{seen.block}.{seen.branch}"
    return inside if inside in dict(model.named_modules()) else seen.branch


def _is_in_a_block(seen: Seen) -> bool:
    return seen.block.rpartition(".")[2].isdigit()


def _line(model: nn.Module, tensor: str, seen: Sequence[Seen]) -> Layer:
    """What one tensor is, as a line; its block's number is `N`."""
    parameter, is_table = as_rows(model.get_parameter(tensor)), not tensor.endswith(".weight")
    by_start = {one.rows.start: one for one in sorted(seen, key=lambda one: one.rows.start)}
    chunks = list(by_start.values())
    widths = [one.rows.stop - one.rows.start for one in chunks]
    if sum(widths) != len(parameter):
        raise UnknownLayout(
            f"{sum(widths)} of the {len(parameter)} rows of {tensor!r} meet tokens in this forward pass; expected all"
        )
    own = next((one.block for one in chunks if tensor.startswith(f"{one.block}.") and _is_in_a_block(one)), "")
    name = tensor.removesuffix(".weight")
    if own:
        name = f"{own.rpartition('.')[0]}.N{name.removeprefix(own)}"
    stages = dict.fromkeys(one.block.rpartition(".")[0] for one in seen if not own and _is_in_a_block(one))
    branches = [_branches([one for one in seen if one.rows == rows]) for rows in (one.rows for one in chunks)]
    parts = _parts(chunks, branches)
    is_wide = is_table and parameter.ndim > 1
    width_of = "" if is_wide else _width_of(model, own, dict(zip(branches, widths, strict=True)), widths)
    return Layer(name, parts, "table" if is_table else "matrix", width_of, " ".join(stages))


def _parts(chunks: Sequence[Seen], branches: Sequence[str]) -> str:
    """The chunks as a line writes them, branch by branch."""
    parts: list[str] = []
    for one, branch, before in zip(chunks, branches, ["", *branches], strict=False):
        parts += [f"{branch}:"] * (branch != before)
        parts[-1] += f" {one.role.name.lower()}" + (f"({one.function})" if one.function else "")
    return "; ".join(parts)


def _branches(seen: Sequence[Seen]) -> str:
    """All branches in which the same rows act."""
    return "+".join(dict.fromkeys(map(_branch, seen)))


def _branch(seen: Seen) -> str:
    """A name of its module, behind that of its stream where that is not the noisy one's."""
    if not _is_in_a_block(seen):
        return "final"
    of_text = any(word in seen.stream for word in ("encoder", "context", "txt", "text"))
    return "context_" * of_text + (seen.branch or "all").replace(".", "_")


def _width_of(
    model: nn.Module, block: str, width_by_branch: Mapping[str, int], widths: Sequence[int]
) -> str | tuple[str, ...]:
    """Matrices of the block that take as many values as a chunk has rows: they tell chunk counts apart at any width."""
    inputs: dict[int, str] = {}
    for name, module in model.get_submodule(block).named_modules() if block else ():
        weight = getattr(module, "weight", None)
        if weight is not None and weight.ndim == 2 and weight.shape[0] != sum(widths):
            inputs.setdefault(weight.shape[1], f".{name}")
    if len(set(widths)) == 1:
        return inputs.get(widths[0], "rows")
    if len(set(widths)) > len(width_by_branch) or not inputs.keys() >= set(widths):
        raise UnknownLayout(f"the chunks of a layer of {block!r} have {sorted(set(widths))} rows; describe it by hand")
    return tuple(inputs[width] for width in width_by_branch.values())
