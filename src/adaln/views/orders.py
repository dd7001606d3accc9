"""Who moves when, measured on any network under any scheme, beside the paper's Table 1 and printed as it is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from adaln.analysis import UpdateOrder, update_order
from adaln.analysis.closed_form import BLOCK_STARTS
from adaln.analysis.closed_form import order_table as derived_order
from adaln.conditioning import SCHEMES, MakeOptimizer, Scheme, adamw, all_starts, find_layout
from adaln.config import model_name
from adaln.models import ModelConfig, build
from adaln.processes import ProcessConfig
from adaln.report import Block, Cell, Column, Marked, Section, Table
from adaln.rng import generator
from adaln.runs import Run
from adaln.training import batch_loss
from adaln.types import DataSpec

SHORT = {"timestep embedder": "t emb", "label embedder": "y emb"}
"""Headings as narrow as the paper's names."""
LEGEND = (
    "W_f: the last projection; W_ffm, W_att: MLP and attention; W_pat: the patch embedder; W_a, W_g, W_b: gate, scale"
    " and shift of attention (1), of the MLP (2), of the last layer (f); t emb, y emb: embedders of timestep and label."
)
"""What the paper's names stand for."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A fresh network and what it is trained on."""

    name: str
    model: nn.Module
    loss: Callable[[nn.Module, int], Tensor]
    """(model, iteration) -> loss on that iteration's batch."""
    scheme: Scheme | None = None
    """Of a run: its own."""

    def order(self, scheme: Scheme, optimizer: MakeOptimizer = adamw, iterations: int = 3) -> UpdateOrder:
        """Which weights have moved by which iteration under `scheme`; the subject's network stays untouched."""
        return update_order(self.model, scheme, self.loss, iterations, optimizer=optimizer)

    def default_scheme(self) -> Scheme:
        """adaLN-Zero, or a run's own where the network has no place for it."""
        zero = SCHEMES["adaln-zero"]
        return self.scheme if self.scheme and not self.has_place_for(zero) else zero

    def has_place_for(self, scheme: Scheme) -> bool:
        """Whether the network can be started so."""
        try:
            all_starts(find_layout(self.model), scheme)
        except ValueError:
            return False
        return True


def subject_of_run(run: Run) -> Subject:
    """A run's (or a preset's) fresh network, on the batches of its own data."""
    batches = run.batches()

    def loss(model: nn.Module, iteration: int) -> Tensor:
        return batch_loss(run, model, batches, iteration).mean()

    return Subject(f"{model_name(run.config.model)} on {run.dataset.name}", run.new_model(), loss, run.config.scheme)


def subject_of_model(
    config: ModelConfig, process: ProcessConfig, spec: DataSpec, batch_size: int, device: torch.device
) -> Subject:
    """A fresh network on inputs of pure noise: which gradients are exactly zero does not depend on the data."""
    steps = process.build()

    def loss(model: nn.Module, iteration: int) -> Tensor:
        rng = generator("order", "data", iteration, device=device)
        x = torch.randn(batch_size, spec.channels, spec.height, spec.width, generator=rng, device=device)
        y = torch.randint(max(spec.num_classes, 1), (batch_size,), generator=rng, device=device)
        return steps.loss(model, x, y if spec.num_classes else None, *steps.draw(x.shape, rng)).mean()

    model = build(config, spec, generator("order", "network")).to(device)
    return Subject(f"{model_name(config)} on noise", model, loss)


def derived_and_measured(orders: Mapping[str, UpdateOrder], model: ModelConfig) -> Section:
    """When every weight first moves under every scheme, beside what Table 1 derives for adaLN-Zero."""
    note = (
        "The iteration at which any element of these weights first has a gradient that is not exactly 0; –: held, or"
        f" not within 3. Measured on the real network ({model_name(model)}) with AdamW on its own data; marked: not as"
        " in Table 1, the paper's derivation for a simplified block under adaLN-Zero."
    )
    table = moves_table(
        "The iteration at which weights first move", orders, note, derived_order(BLOCK_STARTS["adaln-zero"])
    )
    return Section("Who moves when", [table], folded=True)


def moves_table(title: str, orders: Mapping[str, UpdateOrder], note: str, table_1: UpdateOrder | None = None) -> Table:
    """A row for each scheme: when every weight first moves; marked where that is not as in `table_1`."""
    names = list(dict.fromkeys(name for order in orders.values() for name in order.names))
    rows: list[list[Cell]] = []
    if table_1 is not None:
        rows.append([Marked("Table 1", "muted"), *(Marked(table_1.first.get(name), "muted") for name in names)])
    for scheme, order in orders.items():
        unlike = order.differing(table_1) if table_1 is not None else ()
        firsts = [order.first.get(name) for name in names]
        rows.append([scheme, *(Marked(f, "differs") if n in unlike else f for n, f in zip(names, firsts, strict=True))])
    return Table(title, [Column("scheme"), *(Column(SHORT.get(n, n)) for n in names)], rows, [note, LEGEND])


def measured_side_by_side(subject: str, optimizer: str, orders: Mapping[str, UpdateOrder]) -> Section:
    """One or two schemes' orders as the paper prints them; where they differ is marked."""
    blocks: list[Block] = []
    for name, order in orders.items():
        others = [other for other in orders.values() if other is not order] or [order]
        blocks.append(order_table(f"{name}: who moves when ({subject}, {optimizer})", order, others[0]))
    return Section("Who moves when", blocks, order_answer(orders))


def order_answer(orders: Mapping[str, UpdateOrder]) -> str:
    """Whether two schemes move their weights alike; of one, what moves at which iteration."""
    (name, order), *others = orders.items()
    if others:
        other, theirs = others[0]
        unlike = order.differing(theirs)
        return f"{name} and {other} " + (f"differ in when {', '.join(unlike)} move." if unlike else "move alike.")
    first = order.first
    at = {i: [n for n in order.names if first[n] == i] for i in sorted({i for i in first.values() if i})}
    parts = [f"{', '.join(names)} at iteration {i}" for i, names in at.items()]
    still = [n for n in order.names if first[n] is None]
    parts += [f"{', '.join(still)} not within {len(order.moves)}"] if still else []
    return f"Under {name} move first {'; '.join(parts)}."


def first_moves(subject: str, optimizer: str, orders: Mapping[str, UpdateOrder]) -> Section:
    """The first iteration at which each weight moves, many schemes in one table, those of one order together."""
    firsts = {scheme: tuple(order.first.values()) for scheme, order in orders.items()}
    of_one_order = list(dict.fromkeys(firsts.values()))
    alike = dict(sorted(orders.items(), key=lambda item: of_one_order.index(firsts[item[0]])))
    note = "Where a gradient is first not exactly 0. –: not within the iterations, or held by the scheme."
    table = moves_table(f"The iteration at which weights first move ({subject}, {optimizer})", alike, note)
    return Section("Who moves when", [table], f"{len(orders)} schemes move in {len(of_one_order)} orders.")


def order_table(title: str, order: UpdateOrder, versus: UpdateOrder) -> Table:
    """Table 1: a row for each iteration, a column for each weight; cells unlike those of `versus` are marked."""
    expected = versus.columns

    def cell(name: str, iteration: int, moves: bool) -> Cell:
        text = "yes" if moves else "–"
        return Marked(text, "differs") if name not in expected or expected[name][iteration] != moves else text

    rows = [
        [i + 1, *(cell(name, i, moves) for name, moves in zip(order.names, row, strict=True))]
        for i, row in enumerate(order.moves)
    ]
    return Table(title, [Column("iteration"), *map(Column, order.names)], rows)
