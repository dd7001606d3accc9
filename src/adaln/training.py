"""The training loop."""

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from types import FrameType
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from adaln.conditioning import Order, hold, order_to_hold, refuse_weight_decay
from adaln.data import Batches, Prefetched
from adaln.dtensor import whole
from adaln.execution import (
    DEFAULT_EXECUTION,
    Execution,
    autocast,
    check_parts,
    check_precision,
    deterministic_kernels,
    matrix_products,
    prepare_blocks,
    usable,
)
from adaln.parallel import any_of, data_parallel, from_first, no_sync, rank, world
from adaln.progress import progress
from adaln.rng import generator
from adaln.runs import NonFinite, Run, TrainState
from adaln.types import Hook, Labels, Latents, Times

IN_ONE_STEP = 64
"""Processes that agree in every step on whether to stop; more of them, whose answers take longer, in as many fewer."""


class Stopped(KeyboardInterrupt):
    """Training was asked to stop and has saved; the message says how to go on."""


def train(run: Run, hooks: Sequence[Hook] = (), execution: Execution = DEFAULT_EXECUTION) -> None:
    """Train to `run.config.steps`, from the newest checkpoint if there is one; all processes of a group together.

    Batches, times, noise and label dropout are functions of (seed, step, position in the batch), so a resumed run is
    the same run bit for bit on one device (a GPU needs `execution.deterministic`), and several processes learn from
    what one would. SIGTERM and Ctrl-C save and raise `Stopped`; a loss or gradient that is not finite raises
    `NonFinite` naming the first tensor that went wrong, with the last good checkpoint untouched. A checkpoint that
    cannot be written raises `OSError` a step or more later, the last one before the end.
    """
    execution = usable(execution, run.device)
    check_precision(run.config.precision, run.device)
    mine = run.batches()
    check_parts(execution, mine.batch_size)
    run.path.mkdir(parents=True, exist_ok=True)
    with (
        run.exclusive(),
        deterministic_kernels() if execution.deterministic else nullcontext(),
        stop_requests() as stop,
        Prefetched(mine, pin=run.device.type == "cuda") as batches,
    ):
        state = run.resume_or_start(execution)
        hooks = (hold(run_order(run, execution)), *hooks)
        prepare_blocks(state.model, execution)
        network = data_parallel(state.model)
        show_steps(run, state)
        while state.step < run.config.steps:
            loss = accumulate(run, network, inputs(run, batches, state.step), execution.micro_batches)
            for hook in hooks:
                hook(state.step, state.model)
            try:
                state.update(loss)
                run.log_if_due(state)
            except NonFinite as error:
                raise NonFinite(f"step {state.step}: {first_bad(run, state, batches) or error}") from None
            run.checkpoint_if_due(state)
            show_steps(run, state)
            is_asked = state.step % (1 + world() // IN_ONE_STEP) == 0
            if is_asked and any_of(stop.is_set()) and state.step < run.config.steps:
                if state.step not in from_first(run.steps_saved):
                    run.checkpoint(state)
                raise Stopped(f"stopped at step {state.step} of {run.config.steps}, saved in {run.path}")
        run.checkpoints.settle()


def show_steps(run: Run, state: TrainState) -> None:
    """The steps that are done, as progress."""
    progress(f"train {run.path.name}", state.step, run.config.steps, "steps")


def accumulate(run: Run, network: nn.Module, batch: "Inputs", num_parts: int) -> Float[Tensor, ""]:
    """Add the gradient of the mean loss over a batch, one part after the other; returns that loss."""
    count, total = len(batch.x), torch.zeros((), device=run.device)
    *others, last = batch.split(count // num_parts)
    for part in (*others, last):
        with matrix_products(run.config.precision), nullcontext() if part is last else no_sync(network):
            loss = loss_of(run, network, part).sum() / count
            loss.backward()  # type: ignore[no-untyped-call]
        total += loss.detach()
    return total


def batch_loss(run: Run, model: nn.Module, batches: Batches | Prefetched, step: int) -> Float[Tensor, "B"]:
    """Loss per sample on this process's share of a step's batch: a pure function of (weights, seed, step, share)."""
    return loss_of(run, model, inputs(run, batches, step))


def loss_of(run: Run, model: nn.Module, batch: "Inputs") -> Float[Tensor, "B"]:
    """Loss per sample, the forward in the run's precision."""

    def network(x: Latents, t: Times, y: Labels | None) -> Tensor:
        with autocast(run.config.precision, run.device):
            output: Tensor = model(x, t, y)
        return output.float()

    return run.process.loss(network, *batch)


class Inputs(NamedTuple):
    """What the loss of a step is computed from, besides the weights."""

    x: Latents
    y: Labels | None
    t: Times
    noise: Latents

    def split(self, size: int) -> Iterator["Inputs"]:
        """Consecutive parts of `size` samples."""
        for start in range(0, len(self.x), size):
            rows = slice(start, start + size)
            yield Inputs(self.x[rows], None if self.y is None else self.y[rows], self.t[rows], self.noise[rows])


def inputs(run: Run, batches: Batches | Prefetched, step: int) -> Inputs:
    """This process's share of a step, on the run's device.

    Label dropout, times and noise are drawn for the batch of all processes together, each of which keeps its own rows.
    """
    x, y = batches.at(step)
    rng = generator("train", run.config.seed, step, device=run.device)
    u = torch.rand(run.config.batch_size, generator=rng, device=run.device)[batches.share]
    t, noise = run.process.draw((run.config.batch_size, *x.shape[1:]), rng)
    if y is not None:
        y = drop_labels(y.to(run.device, non_blocking=True), run.null_label, run.config.model.class_dropout_prob, u)
    return Inputs(x.to(run.device, non_blocking=True), y, t[batches.share], noise[batches.share])


def drop_labels(y: Labels, null_label: int | None, probability: float, u: Float[Tensor, "B"]) -> Labels:
    """Labels, replaced by the null class where u, uniform in [0, 1), is below `probability` (for guidance later)."""
    return y if null_label is None else torch.where(u < probability, null_label, y)


def run_order(run: Run, execution: Execution = DEFAULT_EXECUTION) -> Order:
    """What the run's scheme holds, and until when: measured on the fresh model once, then kept with the run.

    Every process measures it on the first one's share of the batches, so that all hold the same. It takes no more
    memory than training: parts of a batch are computed again for their gradients, and blocks if training does so.
    """
    order = from_first(run.saved_order)
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
            run.save_order(order)
    return order


def first_bad(run: Run, state: TrainState, batches: Batches | Prefetched) -> str | None:
    """What is not finite on the newest batch: the first parameter, the batch, else the first output of a module."""
    for name, parameter in state.model.named_parameters():
        if not bool(torch.isfinite(whole(parameter)).all()):
            return f"the weights {name!r} are not finite"
    batch = inputs(run, batches, state.step)
    if not bool(torch.isfinite(batch.x).all()):
        return "the images or latents of the batch are not finite"
    found: list[str] = []

    def watch(name: str) -> None:
        def look(module: nn.Module, inputs: object, output: object) -> None:
            if isinstance(output, Tensor) and not found and not bool(torch.isfinite(output).all()):
                found.append(f"the output of {name!r} is not finite")

        handles.append(state.model.get_submodule(name).register_forward_hook(look))

    handles: list[torch.utils.hooks.RemovableHandle] = []
    for name, module in state.model.named_modules():
        if not any(module.children()):
            watch(name)
    with torch.no_grad(), torch.compiler.set_stance("force_eager"):
        loss_of(run, state.model, batch)
    for handle in handles:
        handle.remove()
    return found[0] if found else None


@contextmanager
def stop_requests() -> Iterator[threading.Event]:
    """An event that SIGTERM or Ctrl-C sets; a second Ctrl-C interrupts at once. Handlers need the main thread."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def request(number: int, frame: FrameType | None) -> None:
        if stop.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.set()

    previous = {number: signal.signal(number, request) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
