"""What a stored type does to gate, scale, shift and the head: entries that it rounds, updates that it loses.

An entry w is stored as q(w), the nearest number of the type, by torch's plain cast: no scale per tensor. Training
weights that are stored so takes q(w) to q(q(w) - u). AdamW's first update is u = +-lr whatever the gradient, since
m / sqrt(v) = +-1 at step 1; it is lost where q(q(w) - u) = q(w), that is where lr is less than half the distance to
the next number of the type: in bfloat16 at |w| > 1/32 for lr = 1e-4, at |w| > 1/256 for a tenth of it.

>>> import torch
>>> from adaln.conditioning import find_sites
>>> from adaln.models import MODELS, build
>>> from adaln.rng import generator
>>> from adaln.specs import DataSpec
>>> tensors = dict(build(MODELS["tiny"], DataSpec(1, 8, 8, 10), generator("example")).named_parameters())
>>> [(row.type, row.role) for row in precision_rows(tensors, find_sites(tensors), {"bf16": torch.bfloat16})[:2]]
[('bf16', 'gate'), ('bf16', 'gate bias')]
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from math import sqrt

import numpy as np
import torch
from jaxtyping import Float32, Int, Int64
from torch import Tensor

from adaln.analysis.groups import Group, GroupedRows, by_role, read_rows, rows_of_sites
from adaln.analysis.sketch import Times, counted, number_of, numbers_of
from adaln.conditioning import Site
from adaln.registry import Registry
from adaln.report import Cell, Column, Marked, Table

STORED_TYPES = Registry(
    "stored type",
    {
        "bf16": torch.bfloat16,
        "fp16": torch.float16,
        "fp8": torch.float8_e4m3fn,
        "fp8_e5m2": torch.float8_e5m2,
    },
)
"""What weights are kept in, by the names that people use; fp8 is e4m3fn, as most files of it are."""
UPDATES = (1e-4, 1e-5)
"""Sizes of an update: AdamW's first one at lr 1e-4, and a tenth of it, as later ones are."""
ZEROED_ALARM = LOST_ALARM = 0.01
"""Shares of entries that round to zero, and of first updates that are lost, above which a type is advised against."""
_NUM_CODES = 1 << 16


@dataclass(frozen=True, slots=True)
class PrecisionRow:
    """One role over all blocks, stored in one type. Shares are of its finite entries unless they say of which."""

    type: str
    role: str
    """"gate", "gate bias", "final scale", "gate table", ..., "head", "head bias"."""
    entries: int
    """Finite ones."""
    zeroed_share: float
    """Of the entries that are not zero, those that the type rounds to zero."""
    changed_share: float
    """Those that the type does not hold exactly; 0: they were stored in it, or in a coarser one, before."""
    distinct_values: int
    """How many numbers are left of all entries: entries that round to the same value are one."""
    relative_error: float
    """Root mean square of q(w) - w over that of w, of the entries within the type's range."""
    beyond_range: int
    """Entries above the type's largest number: infinite in fp16 and fp8_e5m2, held at 448 (or NaN) in fp8."""
    lost_updates: tuple[float, ...]
    """For each size of `UPDATES`, the share of updates that change nothing, mean over both signs."""


@dataclass(frozen=True, slots=True, eq=False)
class _Tally:
    """Sums over entries; `a + b` is that of both together."""

    entries: int = 0
    nonzero: int = 0
    changed: int = 0
    beyond_range: int = 0
    squared_error: float = 0.0
    square: float = 0.0
    codes: Int[np.ndarray, " 65536"] = field(default_factory=lambda: np.zeros(_NUM_CODES, np.int64))
    """How often each bit pattern of the type occurs."""

    def __add__(self, other: "_Tally") -> "_Tally":
        return _Tally(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))


def precision_rows(
    tensors: Mapping[str, Tensor], sites: Iterable[Site], types: Mapping[str, torch.dtype], head: Iterable[str] = ()
) -> list[PrecisionRow]:
    """What each of the `types` (by name) does to each role over all blocks, and to the head's tensors.

    A tensor is read once for all types, a file's through a buffer of constant size.
    """
    rows = [*rows_of_sites(by_role(sites)), *_rows_of_head(head)] if types else []
    tallies: dict[tuple[str, str], _Tally] = defaultdict(_Tally)
    for grouped, of_types in read_rows(tensors, rows, partial(_tallies, tuple(types.values()))):
        for name, tally in zip(types, of_types, strict=True):
            tallies[name, grouped.groups[0].name] += tally
    roles = dict.fromkeys(grouped.groups[0].name for grouped in rows)
    return [_row(name, types[name], role, tallies[name, role]) for name in types for role in roles]


def _rows_of_head(names: Iterable[str]) -> Iterator[GroupedRows]:
    for name in sorted(names, reverse=True):  # the weight first
        yield GroupedRows(name, slice(None), (Group("head bias" if name.endswith("bias") else "head"),))


def _tallies(dtypes: Sequence[torch.dtype], chunks: Iterable[Tensor]) -> list[_Tally]:
    """One per type, of a stream of flat chunks that are gone when the next is asked for."""
    tallies = [_Tally()] * len(dtypes)
    for values, times in counted(chunks):
        finite = values.isfinite()
        if not finite.all():  # picking them out costs more than all else
            values, times = values[finite], None if times is None else times[finite]
        tallies = [tally + _tally(values, times, dtype) for tally, dtype in zip(tallies, dtypes, strict=True)]
    return tallies


def _tally(values: Float32[Tensor, " n"], times: Times, dtype: torch.dtype) -> _Tally:
    stored = values.to(dtype)
    rounded = stored.float()
    beyond = values.abs() > torch.finfo(dtype).max
    error, within = rounded - values, values
    if beyond.any():
        error, within = error.where(~beyond, 0), values.where(~beyond, 0)
    error, within = error.double(), within.double()
    codes = stored.view(torch.uint8) if dtype.itemsize == 1 else stored.view(torch.int16).int() & (_NUM_CODES - 1)
    return _Tally(
        values.numel() if times is None else int(times.sum()),
        number_of(values != 0, times),
        number_of(rounded != values, times),
        number_of(beyond, times),
        float(error.dot(error if times is None else times * error)),
        float(within.dot(within if times is None else times * within)),
        codes.bincount(times, _NUM_CODES).long().numpy(),
    )


def _row(name: str, dtype: torch.dtype, role: str, tally: _Tally) -> PrecisionRow:
    numbers = numbers_of(dtype)
    counts = torch.from_numpy(tally.codes[: len(numbers)])
    zeroed = int(counts[numbers == 0].sum()) - (tally.entries - tally.nonzero)
    return PrecisionRow(
        name,
        role,
        tally.entries,
        zeroed / max(tally.nonzero, 1),
        tally.changed / max(tally.entries, 1),
        len(set(numbers[counts > 0].tolist())),
        sqrt(tally.squared_error / tally.square) if tally.square else 0.0,
        tally.beyond_range,
        tuple(_lost_share(numbers, counts, update, dtype) for update in UPDATES),
    )


def _lost_share(
    numbers: Float32[Tensor, " codes"], counts: Int64[Tensor, " codes"], update: float, dtype: torch.dtype
) -> float:
    """Share of updates of this size that change nothing; as torch's AdamW, the sum is taken in float32."""
    lost = sum(int(counts[(numbers + move).to(dtype).float() == numbers].sum()) for move in (update, -update))
    return lost / max(2 * int(counts.sum()), 1)


def precision_table(rows: Sequence[PrecisionRow]) -> Table:
    """The rows as people read them; shares above the alarms are marked."""
    columns = [
        Column("stored type"),
        Column("role"),
        Column("entries", format=","),
        Column("to zero", "%", ".3g"),
        Column("changed", "%", ".3g"),
        Column("error", "%", ".2g"),
        Column("values left", format=","),
        *(Column(f"update of {update:g} lost", "%", ".3g") for update in UPDATES),
    ]
    notes = [
        "to zero: of the entries that are not zero; changed: what the type does not hold exactly (0: was stored in it);"
        " error: root mean square over that of the weights; values left: distinct ones.",
        f"Updates are of weights stored in the type, mean over both signs; {UPDATES[0]:g} is AdamW's first at that lr."
        " fp8 is e4m3fn; neither fp8 type has a scale here.",
    ]
    return Table("What a stored type loses", columns, [_cells(row) for row in rows], notes)


def _cells(row: PrecisionRow) -> list[Cell]:
    first, *later = row.lost_updates
    beyond = Marked(f"{row.entries:,}, {row.beyond_range:,} beyond its range", "warning")
    return [
        row.type,
        row.role,
        beyond if row.beyond_range else row.entries,
        _percent(row.zeroed_share, ZEROED_ALARM),
        100 * row.changed_share,
        100 * row.relative_error,
        row.distinct_values,
        _percent(first, LOST_ALARM),
        *(100 * share for share in later),
    ]


def _percent(share: float, alarm: float) -> Cell:
    return Marked(100 * share, "warning") if share > alarm else 100 * share
