"""A run while it is trained: held by one training, taken up where it stands, its order measured, saved."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from adaln.codec import canonical_json
from adaln.conditioning import Order, OrderPart, holding, order_to_hold, refuse_weight_decay
from adaln.execution import DEFAULT_EXECUTION, Execution, matrix_products, prepare_blocks
from adaln.files import claimed, reading, remove_temporaries, write_atomically
from adaln.parallel import from_first, rank, world
from adaln.progress import note
from adaln.runs import Run, drop_from
from adaln.runs.manifest import describe_data, describe_parameters, environment
from adaln.training.ema_and_optimizer import TrainState
from adaln.training.loss import inputs, loss_of
from adaln.training.optimizer import decay_of_held, settings_of
from adaln.training.speed import say_what_begins
from adaln.types import NonFinite


@contextmanager
def exclusive(run: Run) -> Iterator[None]:
    """Hold the run: a second process that wants to train it waits a little, then gets one clear line."""
    if rank():
        yield  # the first process holds it for all
        return
    refusal = f"run {str(run.path)!r} is being trained by another process"
    with claimed(run.path / ".lock", refusal):
        try:
            yield
        finally:
            run.checkpoints.wait()  # what is still being written belongs to the run


def fresh_state(run: Run, *, is_sharded: bool = False) -> TrainState:
    """Before the first update."""
    config = run.config
    return TrainState(run.new_model(), config.optim, is_sharded, config.precision, run.lr_factors(), config.param_dtype)


def update_after(run: Run, step: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Every weight that is trained before and after the update that follows a kept checkpoint; nothing is written."""
    state = fresh_state(run)
    state.load(run.checkpoints.load(step), str(run.folder(step)))
    before = {name: tensor.detach().clone() for name, tensor in state.named.items()}
    with matrix_products(run.config.precision):
        loss = loss_of(run, state.model, inputs(run, run.batches(), step)).mean()
        loss.backward()  # type: ignore[no-untyped-call]
    holding(read_order(run) or {})(step, state.model)
    state.update(loss)
    return before, {name: tensor.detach() for name, tensor in state.named.items()}


def resume_or_start(run: Run, execution: Execution = DEFAULT_EXECUTION) -> TrainState:
    """The newest complete checkpoint's state, else a fresh one; opens a session in the manifest. Of several processes
    the first one decides and writes.

    Raises `ValueError` where the data is not what the run began with.
    """
    state = fresh_state(run, is_sharded=execution.parallel == "fsdp")
    saved = from_first(run.steps_saved)
    if saved:
        state.load(run.checkpoints.load(saved[-1]), str(run.folder(saved[-1])))
    if rank() == 0:
        remove_temporaries(run.path)
        remove_temporaries(run.checkpoints.root)
        for records in ("metrics.jsonl", "speed.jsonl"):
            drop_from(run.path / records, state.step + 1)
        open_session(run, state, execution)
    return state


def open_session(run: Run, state: TrainState, execution: Execution) -> None:
    """An entry in the manifest: where, with what and how the run is trained from here on."""
    manifest, data = run.manifest, describe_data(run.dataset, run.data.path)
    how = {
        "precision": run.config.precision,
        "param_dtype": run.config.param_dtype,
        "processes": world(),
        "execution": asdict(execution),
    }
    session = {"from_step": state.step, **environment(run.device), **how}
    parameters = describe_parameters(state.model, run.config.scheme)
    row = {
        "data": data,
        "parameters": parameters,
        **({"optimizer": state.by_role.describe()} if state.by_role else {}),
        "seed": run.config.seed,
        "sessions": [*manifest.get("sessions", []), session],
    }
    write_atomically(run.path / "manifest.json", canonical_json(row))
    note(f"{run.data.path}: {run.dataset.summary()}")
    say_what_begins(run, state.step, parameters["network"])


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
        moved = dict(probe.named_parameters())
        refuse_weight_decay(order, decay_of_held(order, settings_of(moved, run.config.optim, {}, probe)))
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


def save_if_due(run: Run, state: TrainState) -> None:
    """Begin to save at the chosen steps and at the end; raises what went wrong with the save before."""
    run.checkpoints.raise_failure()
    config = run.config
    if state.step % config.checkpoint_every == 0 or state.step in (*config.keep_at, config.steps):
        begin_to_save(run, state)


def save(run: Run, state: TrainState) -> None:
    """Save, and return when that is done."""
    begin_to_save(run, state)
    run.checkpoints.settle()


def begin_to_save(run: Run, state: TrainState) -> None:
    """Copy the state, which must be finite, for a thread to write."""
    state.check_finite()
    bad = state.not_finite()
    if bad:
        raise NonFinite(f"step {state.step}: {bad} is not finite")
    state.mean_loss_sum()
    if rank() == 0 or state.is_sharded:
        run.checkpoints.save(state.step, state.tensors())
