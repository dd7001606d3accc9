"""Who moves when, measured on any network under any scheme, printed as Table 1 is."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from adaln.analysis import UpdateOrder, update_order
from adaln.conditioning import MakeOptimizer, Scheme
from adaln.config import model_name
from adaln.models import ModelConfig, build
from adaln.processes import ProcessConfig
from adaln.processes import build as build_process
from adaln.report import Block, Cell, Column, Marked, Section, Table
from adaln.rng import generator
from adaln.runs import Run
from adaln.types import DataSpec
from adaln.views.orders import losses_of, order_matrix


@dataclass(frozen=True, slots=True)
class Subject:
    """A fresh network and what it is trained on."""

    name: str
    model: nn.Module
    loss: Callable[[nn.Module, int], Tensor]
    """(model, iteration) -> loss on that iteration's batch."""


def subject_of_run(run: Run) -> Subject:
    """A run's (or a preset's) fresh network, on the batches of its own data."""
    return Subject(f"{model_name(run.config.model)} on {run.dataset.name}", run.new_model(), losses_of(run))


def subject_of_model(
    config: ModelConfig, process: ProcessConfig, spec: DataSpec, batch_size: int, device: torch.device
) -> Subject:
    """A fresh network on inputs of pure noise: which gradients are exactly zero does not depend on the data."""
    steps = build_process(process)

    def loss(model: nn.Module, iteration: int) -> Tensor:
        rng = generator("order", "data", iteration, device=device)
        x = torch.randn(batch_size, spec.channels, spec.height, spec.width, generator=rng, device=device)
        drawn = torch.randint(max(spec.num_classes, 1), (batch_size,), generator=rng, device=device)
        return steps.loss(model, x, drawn if spec.num_classes else None, *steps.draw(x.shape, rng)).mean()

    model = build(config, spec, generator("order", "network")).to(device)
    return Subject(f"{model_name(config)} on noise", model, loss)


def measured(subject: Subject, scheme: Scheme, optimizer: MakeOptimizer, iterations: int) -> UpdateOrder:
    """Which weights have moved by which iteration under `scheme`; the subject's network stays untouched."""
    return update_order(subject.model, scheme, subject.loss, iterations, optimizer=optimizer)


def order_section(subject: str, optimizer: str, orders: dict[str, UpdateOrder]) -> Section:
    """One or two schemes' orders as tables and pictures; where they differ is marked."""
    blocks: list[Block] = []
    for name, order in orders.items():
        others = [other for other in orders.values() if other is not order] or [order]
        blocks.append(order_table(f"{name}: who moves when ({subject}, {optimizer})", order, others[0]))
        caption = (
            f"Measured on {subject} with {optimizer}: whether any element of these weights has a gradient that is not"
            f" exactly 0, n = {len(order.moves)} iterations. Outlined: unlike the other scheme's."
        )
        blocks.append(order_matrix(f"{name}: update order", caption, order, others[0]))
    return Section("Who moves when", blocks)


def order_table(title: str, order: UpdateOrder, versus: UpdateOrder) -> Table:
    """Table 1: a row for each iteration, a column for each weight; cells unlike those of `versus` are marked."""
    expected = versus.columns

    def cell(name: str, iteration: int, moves: bool) -> Cell:
        text = "yes" if moves else "–"
        return Marked(text, "differs") if name not in expected or expected[name][iteration] != moves else text

    rows = [
        [i + 1, *(cell(*pair, row[k]) for k, pair in enumerate((n, i) for n in order.names))]
        for i, row in enumerate(order.moves)
    ]
    return Table(title, [Column("iteration"), *map(Column, order.names)], rows)
