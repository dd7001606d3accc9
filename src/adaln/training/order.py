"""The update order that a run replays: measured once on its fresh network, kept in its order.json."""

import json
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from adaln.conditioning import Order, OrderPart, order_to_hold, refuse_weight_decay
from adaln.execution import DEFAULT_EXECUTION, Execution, matrix_products, prepare_blocks
from adaln.files import reading, write_atomically
from adaln.parallel import from_first, rank
from adaln.runs import Run
from adaln.training.loss import inputs, loss_of


def run_order(run: Run, execution: Execution = DEFAULT_EXECUTION) -> Order:
    """What the run's scheme holds, and until when: measured on the fresh model once, then kept with the run.

    Every process measures it on the first one's share of the batches, so that all hold the same. It takes no more
    memory than training: parts of a batch are computed again for their gradients, and blocks if training does so.
    """
    order = from_first(lambda: read_order(run))
    if order is None:
        batches, probe = run.batches(of=0), run.new_model()
        prepare_blocks(probe, replace(execution, compile=False))

        def loss(model: nn.Module, iteration: int) -> Tensor:
            batch = inputs(run, batches, iteration)
            parts = batch.split(len(batch.x) // execution.micro_batches)
            return torch.cat([checkpoint(loss_of, run, model, part, use_reentrant=False) for part in parts]).mean()

        with matrix_products(run.config.precision):
            order = order_to_hold(probe, run.config.scheme, loss, run.config.seed)
        refuse_weight_decay(order, run.config.optim.weight_decay)
        if order and rank() == 0:
            write_order(run, order)
    return order


def write_order(run: Run, order: Order) -> None:
    """Keep a measured order: it is replayed, not measured again, after a resume."""
    rows = [{"tensor": p.tensor, "start": p.start, "stop": p.stop, "opens": opens} for p, opens in order.items()]
    write_atomically(run.path / "order.json", json.dumps(rows, indent=1) + "\n")


def read_order(run: Run) -> Order | None:
    """The order kept by `write_order`, if any."""
    file = run.path / "order.json"
    if not file.exists():
        return None
    with reading(file, "the update order of a run"):
        rows = json.loads(file.read_text(encoding="utf-8"))
        if not rows:
            raise ValueError("it holds no rows of any weight")
        return {OrderPart(row["tensor"], row["start"], row["stop"]): row["opens"] for row in rows}
