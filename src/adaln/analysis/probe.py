"""What every row of every modulation layer of a live network does, by behaviour alone.

No names are needed. One forward pass (`dataflow.Trace`) sees where values that hold no tokens meet tokens, and as
what: shift, scale or gate. In further passes the layers that gave these values give a fixed fingerprint instead, a
number of its own for each row, and the rows are read where they are used. Layers whose values are added to each other,
a shared map and a table, take turns: while one gives its fingerprint, the others give zero.
"""

# mypy: disallow-untyped-calls=False
from collections import Counter, defaultdict
from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count, pairwise, takewhile
from math import isfinite, nan, sqrt
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from adaln.analysis.dataflow import Trace, Use
from adaln.analysis.operations import ARITHMETIC, Counted, Place, block_of, is_matrix, run
from adaln.conditioning import VALUE_FUNCTIONS, Role
from adaln.rng import generator

_REACH = 3.0
"""Fingerprints lie in +- this: beyond the 2 at which some clamp, and small enough for exp."""
_TOLERANCE = 1e-4


@dataclass(frozen=True, slots=True)
class Seen:
    """What some rows of one tensor do in one place of the network."""

    tensor: str
    """Name of the parameter: a matrix, or a table."""
    rows: slice
    """Rows of the tensor seen as (-1, last size), of a flat table elements."""
    role: Role
    function: str
    """What the value goes through first, one of `VALUE_FUNCTIONS`."""
    block: str
    """The numbered module where they act; where there is none, the first word of the tensor's name."""
    branch: str
    """Module of the block: whose input is scaled and shifted, whose output is gated."""
    stream: str
    """Argument of the block as which the stream enters it that is modulated or added to."""
    ratio: float | None = None
    """Of a gate |gate * F(...)| / |x|, Euclidean over the batch, x the stream that enters the block."""
    open_ratio: float | None = None
    """Of a gate |F(...)| / |x|: what a gate of 1 would let through."""


def probe(
    model: nn.Module,
    inputs: Mapping[str, Any],
    layers: Collection[str] | None = None,
    static: Collection[str] = (),
) -> list[Seen]:
    """What the rows of the modulation layers do, in forward order; a layer that acts in many blocks in each of them.

    Rows whose values are added to each other, a shared map's and a table's, are said one after the other. `layers`
    (names of modules and of tables) are the only ones that count; by default all that behave as such do. Tables that
    are `static` count though no condition is added to them. Ratios are None where they are not finite.
    Raises `ValueError` naming a layer whose values reach the tokens through a function that is not known.
    """
    tables = {name: table for name, table in _tables(model).items() if layers is None or name in layers}
    trace = Trace(tables, layers, static)
    with torch.no_grad():
        run(model, trace.marked(model, inputs), trace)
    matrices = {name: rows for name, rows in trace.of_values.items() if name not in trace.of_tokens}
    uses = [
        use for use in trace.uses if use.layers <= matrices.keys() | tables.keys() and not _is_embedding(use, matrices)
    ]
    readings = _read(model, inputs, uses, matrices, tables)
    for use in uses:
        if not readings[use.place]:
            raise ValueError(
                f"{' + '.join(sorted(use.layers))} meets tokens in {use.place.module!r} in a way that is not known; "
                f"known: sums and products, after {', '.join(filter(None, VALUE_FUNCTIONS))} or nothing"
            )
    return _named(uses, readings)


def _is_embedding(use: Use, matrices: Container[str]) -> bool:
    """A vector that is added to a stream, or to another vector from which modulation is made."""
    return use.embedding or (bool(use.mixed_after) and use.mixed_after[-1] in matrices)


def _tables(model: nn.Module) -> dict[str, Tensor]:
    """Parameters that may be tables: rows of vectors that belong to no linear layer and no norm."""
    leaves = {name for name, module in model.named_modules() if not list(module.children())}
    return {
        name: parameter
        for name, parameter in model.named_parameters()
        if parameter.is_floating_point()
        and (parameter.ndim in (1, 2) or (parameter.ndim == 3 and parameter.shape[0] == 1))
        and not (name.rpartition(".")[0] in leaves and name.rpartition(".")[2] in ("weight", "bias"))
    }


class Reading(NamedTuple):
    """Rows of one tensor at one use."""

    tensor: str
    rows: slice
    function: str


class _Read(Counted):
    """What values are at some places while layers give what they are made to give."""

    def __init__(self, places: Iterable[Place], outputs: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.places: dict[tuple[str, int], list[Place]] = defaultdict(list)
        for place in places:
            self.places[place[:2]].append(place)
        self.outputs = outputs
        self.values: dict[Place, Tensor] = {}

    def leave(self, name: str, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        """The output that this layer is made to give."""
        super().leave(name, module, args, output)
        if name in self.outputs and is_matrix(module, output):
            return self.outputs[name].to(output).expand(output.shape).clone()
        return None

    def operate(self, name: str, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Keep the value's distinct rows."""
        if name in ARITHMETIC:
            for place in self.places.get(self.place(0)[:2], ()):
                self.values[place] = _distinct_rows(args[place.operand])
        return func(*args, **kwargs)


def _distinct_rows(value: Tensor) -> Tensor:
    """(rows, D): D is the axis along which a value of one sample and token varies."""
    for axis in range(value.ndim - 1, -1, -1):
        if value.shape[axis] > 1 and (value != value.narrow(axis, 0, 1)).any():
            rows = value.detach().movedim(axis, -1).reshape(-1, value.shape[axis])
            return torch.unique(rows, dim=0) if (rows != rows[:1]).any() else rows[:1].clone()
    return value.detach().flatten()[:1, None].clone()


def _read(
    model: nn.Module,
    inputs: Mapping[str, Any],
    uses: Sequence[Use],
    rows: Mapping[str, int],
    tables: Mapping[str, Tensor],
) -> dict[Place, list[Reading]]:
    """Which rows are in the value of each use, of as many layers as are added there."""
    readings: dict[Place, list[Reading]] = defaultdict(list)
    turns = _turns(uses)
    prints = {name: _fingerprint(name, tables[name].numel() if name in tables else rows[name]) for name in turns}
    for turn in range(max(turns.values(), default=-1) + 1):
        given = {name: prints[name] if turns[name] == turn else torch.zeros_like(prints[name]) for name in turns}
        reader = _Read(
            (use.place for use in uses if use.place.operand >= 0),
            {name: given[name] for name in turns if name not in tables},
        )
        with _replaced({tables[name]: given[name] for name in turns if name in tables}):
            run(model, inputs, reader)
        for use in uses:
            for name in sorted(name for name in use.layers if turns[name] == turn):
                for run_of_rows, function in _matches(reader.values.get(use.place), prints[name], use):
                    readings[use.place].append(_reading(name, run_of_rows, function, tables))
    return readings


def _reading(name: str, rows: slice, function: str, tables: Mapping[str, Tensor]) -> Reading:
    if name not in tables:
        return Reading(f"{name}.weight", rows, function)
    width = tables[name].shape[-1] if tables[name].ndim > 1 else 1
    return Reading(name, slice(rows.start // width, rows.stop // width), function)


def _turns(uses: Iterable[Use]) -> dict[str, int]:
    """In which pass each layer gives its fingerprint: layers that are added to each other never in the same."""
    beside: dict[str, set[str]] = defaultdict(set)
    for use in uses:
        for name in sorted(use.layers):
            beside[name] |= use.layers
    turns: dict[str, int] = {}
    for name, others in beside.items():
        taken = {turns[other] for other in others if other in turns}
        turns[name] = next(turn for turn in count() if turn not in taken)
    return turns


def _fingerprint(name: str, rows: int) -> Tensor:
    """A number of its own for every row."""
    order = torch.randperm(rows, generator=generator("fingerprint", name))
    return _REACH * (2 * (order + 0.5) / rows - 1)


@contextmanager
def _replaced(tables: Mapping[Tensor, Tensor]) -> Iterator[None]:
    kept = {table: table.detach().clone() for table in tables}
    try:
        with torch.no_grad():
            for table, given in tables.items():
                table.copy_(given.reshape(table.shape))
        yield
    finally:
        with torch.no_grad():
            for table, values in kept.items():
                table.copy_(values)


def _matches(rows: Tensor | None, fingerprint: Tensor, use: Use) -> Iterator[tuple[slice, str]]:
    """The runs of a fingerprint that stand in these rows, and the function they went through."""
    if rows is None:
        return
    functions = {"": VALUE_FUNCTIONS[""]} if use.role is Role.SHIFT else VALUE_FUNCTIONS
    tolerance = max(_TOLERANCE, torch.finfo(rows.dtype).eps)
    for row in rows.float().cpu():
        for name, function in functions.items():
            one_more = use.role is Role.SCALE and name == "" and not use.of_itself
            start = _start(row, function(fingerprint) + one_more, tolerance)
            if start is not None:
                yield slice(start, start + len(row)), name
                break


def _start(row: Tensor, values: Tensor, tolerance: float) -> int | None:
    """Where a row stands in a longer one."""
    starts = max(0, len(values) - len(row) + 1)
    fits = torch.ones(starts, dtype=torch.bool)
    for i in (0, len(row) // 2, len(row) - 1):
        fits &= torch.isclose(values[i : i + starts], row[i], rtol=tolerance, atol=tolerance)
    for start in fits.nonzero().flatten().tolist():
        if torch.allclose(values[start : start + len(row)], row, rtol=tolerance, atol=tolerance):
            return int(start)
    return None


def _named(uses: Sequence[Use], readings: Mapping[Place, Sequence[Reading]]) -> list[Seen]:
    squares: dict[str, Counter[str]] = defaultdict(Counter)
    seen: dict[str, Seen] = {}
    entering: dict[tuple[str, str], Counter[str]] = {}
    for use in uses:
        for tensor, rows, function in readings[use.place]:
            block = next(filter(None, map(block_of, reversed(use.stack))), "") or _block_of_layer(tensor)
            one = Seen(tensor, rows, use.role or Role.SCALE, function, block, _branch(use, block), use.stream)
            seen.setdefault(str(one), one)
            squares[str(one)].update(use.squares)
            if use.role is Role.GATE:
                entering.setdefault((block, use.stream), squares[str(one)])
    return list(_with_branches(_with_ratios(one, squares[key], entering) for key, one in seen.items()))


def _with_ratios(
    seen: Seen, squares: Mapping[str, float], entering: Mapping[tuple[str, str], Mapping[str, float]]
) -> Seen:
    if seen.role is not Role.GATE:
        return seen
    x = entering[seen.block, seen.stream]["residual"]
    ratios = (sqrt(squares[part] / x) if x else nan for part in ("product", "tokens"))
    ratio, open_ratio = (ratio if isfinite(ratio) else None for ratio in ratios)
    return replace(seen, ratio=ratio, open_ratio=open_ratio)


def _with_branches(seen: Iterable[Seen]) -> Iterator[Seen]:
    """A gate of what no module gave that tokens entered is the branch's that they entered last."""
    entered: dict[tuple[str, str], list[str]] = defaultdict(list)
    for one in seen:
        branches = entered[one.block, one.stream]
        if one.role is not Role.GATE:
            branches.append(one.branch)
        elif branches and one.branch not in branches:
            one = replace(one, branch=branches[-1])
        yield one


def of_one_role(seen: Sequence[Seen]) -> list[Seen]:
    """Without tensors of which some row plays two roles: what an embedder gives to a whole table, a generator's last
    layer."""
    ordered = sorted(seen, key=lambda one: (one.tensor, one.rows.start))
    mixed = {
        a.tensor
        for a, b in pairwise(ordered)
        if a.tensor == b.tensor and b.rows.start < a.rows.stop and (a.role, a.function) != (b.role, b.function)
    }
    return [one for one in seen if one.tensor not in mixed]


def _block_of_layer(tensor: str) -> str:
    """The numbered module that holds the layer of a tensor, which is not the layer itself; else the first word."""
    block = block_of(tensor)
    return block if block and block != tensor.removesuffix(".weight") else tensor.partition(".")[0]


def _branch(use: Use, block: str) -> str:
    """The module that tokens enter after they were modulated, or that they left before their gate."""
    inner = use.mixed_before if use.role is Role.GATE else use.mixed_after
    common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(use.stack, inner, strict=False)))
    name = inner[common] if common < len(inner) else ""
    return name.removeprefix(f"{block}.")
