"""The measured update order of every scheme beside the paper's Table 1."""

from collections.abc import Callable

from torch import Tensor, nn

from adaln.analysis.closed_form import BLOCK_STARTS, order_table
from adaln.analysis.update_order import UpdateOrder, update_order
from adaln.config import model_name
from adaln.models import ModelConfig
from adaln.report import Matrix, Section
from adaln.runs import Run
from adaln.training import batch_loss

SHORT = {"timestep embedder": "t emb", "label embedder": "y emb"}
"""Headings as narrow as the paper's names."""


def measured_order(run: Run) -> UpdateOrder:
    """Which weights have a non-zero gradient at iterations 1, 2, 3 of this run's scheme on its own model and data."""
    return update_order(run.new_model(), run.config.scheme, losses_of(run))


def losses_of(run: Run) -> Callable[[nn.Module, int], Tensor]:
    """(model, iteration) -> loss on that iteration's batch of the run's data."""
    batches = run.batches()

    def loss(model: nn.Module, iteration: int) -> Tensor:
        return batch_loss(run, model, batches, iteration).mean()

    return loss


def order_section(orders: dict[str, UpdateOrder], model: ModelConfig) -> Section:
    """Table 1, derived, and the order that every scheme really has."""
    table_1 = order_table(BLOCK_STARTS["adaln-zero"])
    derived = "Which weights move at iterations 1 to 3, by the paper's derivation (n = 1 block, float64)."
    figures = [order_matrix("Table 1 of the paper: adaLN-Zero, simplified block", derived, table_1, table_1)]
    caption = (
        f"Measured on the real network ({model_name(model)}) with AdamW on its own data: whether any element of these"
        " weights has a gradient that is not exactly 0. Outlined: not as in Table 1."
    )
    figures += [order_matrix(f"{name}: measured", caption, found, table_1) for name, found in orders.items()]
    return Section("Who moves when", figures)


def order_matrix(title: str, caption: str, order: UpdateOrder, reference: UpdateOrder) -> Matrix:
    """Names x iterations; outlined where a name moves at other iterations than in `reference`."""
    differing = set(order.differing(reference)) if order is not reference else set()
    known = reference.columns
    outlined = [
        (i, k)
        for i, row in enumerate(order.moves)
        for k, name in enumerate(order.names)
        if name in differing and row[k] != known[name][i]
    ]
    return Matrix(
        title,
        caption,
        [f"iteration {i + 1}" for i in range(len(order.moves))],
        [SHORT.get(name, name) for name in order.names],
        [[float(moved) for moved in row] for row in order.moves],
        [["moves" if moved else "–" for moved in row] for row in order.moves],
        outlined=outlined,
    )
