"""Who moves when on a real model, by the paper's twelve names: Table 1 as data, measured."""

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from adaln.conditioning import (
    Loss,
    MakeOptimizer,
    OrderPart,
    Role,
    Scheme,
    Site,
    adamw,
    find_layout,
    measure_order,
)
from adaln.conditioning import scheme as scheme_of
from adaln.types import as_rows

TWELVE = tuple(f"W_{name}" for name in ["f", "ffm", "att", "pat", "gf", "bf", "a2", "g2", "b2", "a1", "g1", "b1"])
"""The paper's weights, in the order of Table 1."""
_ROLE_LETTERS = {Role.GATE: "a", Role.SCALE: "g", Role.SHIFT: "b"}
_REST = "other"


@dataclass(frozen=True, slots=True)
class UpdateOrder:
    """`moves[i][k]`: whether `names[k]` has a non-zero gradient at iteration i + 1."""

    names: tuple[str, ...]
    moves: tuple[tuple[bool, ...], ...]

    def __post_init__(self) -> None:
        for row in self.moves:
            if len(row) != len(self.names):
                raise ValueError(f"a row of {len(row)} marks for {len(self.names)} names")

    @property
    def columns(self) -> dict[str, tuple[bool, ...]]:
        """Of each name whether it moves, iteration by iteration."""
        return {name: tuple(row[k] for row in self.moves) for k, name in enumerate(self.names)}

    @property
    def first(self) -> dict[str, int | None]:
        """The iteration (from 1) at which each weight first moves; None where it does not move in the whole table."""
        return {name: column.index(True) + 1 if True in column else None for name, column in self.columns.items()}

    def differing(self, reference: "UpdateOrder") -> tuple[str, ...]:
        """Names, present in both, that do not move at the same iterations."""
        expected = reference.columns
        return tuple(name for name, column in self.columns.items() if expected.get(name, column) != column)

    def __str__(self) -> str:
        """Aligned plain text, as printed in the paper."""
        rows = [("iteration", *self.names)]
        rows += [(str(i), *("yes" if moved else "-" for moved in row)) for i, row in enumerate(self.moves, start=1)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def update_order(
    model: nn.Module, scheme: str | Path | Scheme, loss: Loss, iterations: int = 3, *, optimizer: MakeOptimizer = adamw
) -> UpdateOrder:
    """Table 1 for this model under `scheme`: a weight moves as soon as any part of it, in any block, has moved.

    `loss(model, iteration)` is the scalar loss of a batch; printed, the result is a table as in the paper.

    Measured on a copy, with what the scheme holds held. Biases count with their matrix. After the paper's twelve names
    come the embedders and whatever else the model has; a name without parts, such as the gate of a model that has none,
    is left out.

    >>> import torch
    >>> from adaln.models import MODELS, build
    >>> from adaln.rng import generator
    >>> from adaln.specs import DataSpec
    >>> network = build(MODELS["tiny"], DataSpec(1, 8, 8, 10), generator("order"))
    >>> x, t, y = torch.ones(2, 1, 8, 8), torch.tensor([100.0, 900.0]), torch.tensor([0, 1])
    >>> order = update_order(network, "adaln-zero", lambda model, iteration: (model(x, t, y) - 1).square().mean())
    >>> {name: order.first[name] for name in ("W_f", "W_a1", "W_att", "W_g1")}
    {'W_f': 1, 'W_a1': 2, 'W_att': 3, 'W_g1': 3}
    """
    order = measure_order(model, scheme_of(scheme), loss, num_iterations=iterations, optimizer=optimizer)
    tensors = dict(model.named_parameters())
    names = paper_names(tensors)
    opened: dict[str, list[int]] = defaultdict(list)
    for part, opens in order.items():
        opened[names.get(part, _REST)] += [] if opens is None else [opens]
    present = tuple(
        name for name in dict.fromkeys([*TWELVE, *find_layout(tensors).family.paper_names, _REST]) if name in opened
    )
    moves = tuple(tuple(any(at <= i for at in opened[name]) for name in present) for i in range(iterations))
    return UpdateOrder(present, moves)


def paper_names(tensors: Mapping[str, Tensor]) -> dict[OrderPart, str]:
    """The paper's name of every part of a model: "W_a1" for attention's gates, "W_ffm" for all of the MLPs, ..."""
    layout = find_layout(tensors)
    named = {
        OrderPart(tensor, site.rows.start, site.rows.stop): f"W_{_ROLE_LETTERS[site.role]}{_index(site)}"
        for site in layout.sites
        for tensor in site.tensors()
    }
    hosts, heads = {part.tensor for part in named}, layout.head
    patterns = layout.family.paper_names
    for name, tensor in tensors.items():
        if name not in hosts:
            module = next((module for module, pattern in patterns.items() if re.fullmatch(pattern, name)), _REST)
            named[OrderPart(name, 0, as_rows(tensor).shape[0])] = "W_f" if name in heads else module
    return named


def _index(site: Site) -> str:
    """f for the final layer, 1 for attention, 2 for the MLP."""
    return "f" if site.branch == "final" else "2" if "mlp" in site.branch else "1"
