"""Distributions over a run: what gate, scale and shift look like at a few steps of the training, as it happens."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite, nan, sqrt
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from adaln.analysis.distributions import Histogram, std_histogram
from adaln.analysis.groups import Group, groups_of
from adaln.analysis.sketch import Moments, Sketch, lattice_values, moments, nearest_cells, sketch
from adaln.codec import LEFT_OUT_AT_DEFAULT, decode, encode
from adaln.conditioning import Site, find_sites
from adaln.files import reading
from adaln.parallel import rank, whole
from adaln.runs import append_record, drop_from, read_records
from adaln.types import as_rows

LOG_SPACED_STEPS = (
    *(0, 1, 2, 5, 10, 20, 50, 100, 160, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000),
    *(100_000, 200_000, 400_000, 500_000, 800_000, 1_000_000),
)
"""Roughly 1, 2, 5 per decade, and the paper's own 160, 10K, 50K, 200K, 400K and 800K."""


@dataclass(frozen=True, slots=True)
class RoleRecord:
    """One group at one step: its weights after `step` updates, and the gradient that the next update uses."""

    step: int
    group: Group
    moments: Moments
    histogram: Histogram
    gradient_norm: float | None
    """Euclidean, over the rows of weights and biases; None where a gradient is missing or not finite."""
    update_ratio: float | None = field(default=None, metadata=LEFT_OUT_AT_DEFAULT)
    """Norm of the last update over that of the weights before it; None where it was not seen, or they were zero."""
    moved: float | None = field(default=None, metadata=LEFT_OUT_AT_DEFAULT)
    """Share of the entries that the last update changed."""
    cosine: float | None = field(default=None, metadata=LEFT_OUT_AT_DEFAULT)
    """Of the last update and the one before it."""
    entries: int | None = field(default=None, metadata=LEFT_OUT_AT_DEFAULT)
    """Of all its rows, where all but `gradient_norm` is of some of them."""


class Recorder:
    """A hook that appends the distributions of every role, over all blocks and per block, to a JSON Lines file.

    One line per recorded step. It reads parameters and gradients between backward and the optimiser, so the network
    has no hooks inside, and a step that is not recorded costs one set look-up. Resumed at step s, it first drops the
    lines of step s and later, and a line that a kill has torn. Every process has one: together they have all rows of
    what is spread over them, and the first one writes, and calls `on_records` with the step and what it wrote.

    >>> from tempfile import mkdtemp
    >>> from adaln.models import MODELS, build
    >>> from adaln.rng import generator
    >>> from adaln.specs import DataSpec
    >>> record = Recorder(Path(mkdtemp()) / "roles.jsonl", steps=(0, 100))
    >>> record(0, build(MODELS["tiny"], DataSpec(1, 8, 8, 10), generator("example")))
    >>> [one.group.name for one in read_recording(record.path) if one.group.block is None]
    ['shift', 'scale', 'gate', 'final shift', 'final scale']
    """

    def __init__(
        self,
        path: Path,
        steps: tuple[int, ...] = LOG_SPACED_STEPS,
        on_records: Callable[[int, Sequence[RoleRecord]], None] = lambda step, records: None,
    ) -> None:
        self.path, self.on_records = path, on_records
        self.steps = frozenset(steps)
        self._is_first = True

    def __call__(self, step: int, model: nn.Module) -> None:
        """Record this step if it is one of `steps`."""
        if self._is_first and rank() == 0:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            drop_from(self.path, step)
        self._is_first = False
        if step in self.steps:
            records = observe(step, dict(model.named_parameters()))
            if rank() == 0:
                append_record(self.path, {"step": step, "records": [to_row(record) for record in records]})
                self.on_records(step, records)


def read_recording(path: Path) -> list[RoleRecord]:
    """All that a `Recorder` wrote, in the order of steps."""
    with reading(path, "a recording of roles"):
        return [from_row(line["step"], row) for line in read_records(path) for row in line["records"]]


@torch.no_grad()
def observe(step: int, parameters: Mapping[str, Tensor]) -> list[RoleRecord]:
    """Every role over all blocks, every role in every block, and the final layer, at this moment."""
    sketches: dict[Group, Sketch] = defaultdict(Sketch)
    squares: dict[Group, list[Tensor]] = defaultdict(list)
    for site in find_sites(parameters):
        values = sketch(as_rows(whole(parameters[site.tensors()[0]]))[site.rows])
        gradients = _gradient_squares(site, parameters)
        for group in groups_of(site, by_branch=False):
            sketches[group] += values
            squares[group] += gradients
    ordered = sorted(sketches, key=lambda group: (group.depth is not None, group.depth or 0))
    norms = {group: sqrt(float(torch.stack(parts).sum())) for group, parts in squares.items()}
    finite = {group: norm if isfinite(norm) else None for group, norm in norms.items()}
    return [
        RoleRecord(step, group, moments(sketches[group]), std_histogram(sketches[group]), finite[group])
        for group in ordered
    ]


def _gradient_squares(site: Site, parameters: Mapping[str, Tensor]) -> list[Tensor]:
    """Of weights and biases, NaN where there is no gradient.

    On the CPU, as the weights themselves are looked at: not every device has float64.
    """
    missing = torch.tensor(nan, dtype=torch.float64)
    gradients = (parameters[name].grad for name in site.tensors())
    return [missing if g is None else as_rows(whole(g))[site.rows].cpu().double().square().sum() for g in gradients]


def to_row(record: RoleRecord) -> dict[str, Any]:
    """A record of a line that names the step."""
    row: dict[str, Any] = encode(replace(record, histogram=replace(record.histogram, edges=(), counts=())))
    row["histogram"]["edges"] = to_five_digits(record.histogram.edges)
    row["histogram"]["counts"] = list(record.histogram.counts)  # many, and plain already
    del row["step"]
    return row


def from_row(step: int, row: Mapping[str, Any]) -> RoleRecord:
    """The record that `to_row` made a row of; its edges are lattice points again."""
    record = decode(RoleRecord, {"step": step, **row})
    edges = lattice_values(nearest_cells(np.array(record.histogram.edges)))
    return replace(record, histogram=replace(record.histogram, edges=tuple(edges.tolist())))


def to_five_digits(numbers: Sequence[float]) -> list[float]:
    """Two more than it takes to tell lattice points apart."""
    values = np.array(numbers)
    digits = 4 - np.floor(np.log10(np.abs(values), where=values != 0, out=np.zeros(len(values))))
    power = 10.0 ** np.abs(digits)
    rounded: list[float] = np.where(
        digits < 0, np.rint(values / power) * power, np.rint(values * power) / power
    ).tolist()
    return rounded
