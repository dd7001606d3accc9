"""The training loop."""

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

import torch
from jaxtyping import Float
from torch import Tensor, nn

from adaln.conditioning import Order, hold, order_to_hold, refuse_weight_decay
from adaln.data import Batches, Prefetched
from adaln.rng import generator
from adaln.runs import NonFinite, Run, TrainState
from adaln.types import Hook, Labels


class Stopped(KeyboardInterrupt):
    """Training was asked to stop and has saved; the message says how to go on."""


def train(run: Run, hooks: Sequence[Hook] = ()) -> None:
    """Train to `run.config.steps`, from the newest checkpoint if there is one.

    Batches, times, noise and label dropout are functions of (seed, rank, step), so a resumed run is the same run bit
    for bit on one device. SIGTERM and Ctrl-C save and raise `Stopped`; a loss or gradient that is not finite raises
    `NonFinite` naming the first tensor that went wrong, with the last good checkpoint untouched.
    """
    run.path.mkdir(parents=True, exist_ok=True)
    with run.exclusive(), stop_requests() as stop, Prefetched(run.batches(), pin=run.device.type == "cuda") as batches:
        state = run.resume_or_start()
        hooks = (hold(run_order(run, state, batches)), *hooks)
        while state.step < run.config.steps:
            loss = batch_loss(run, state.model, batches, state.step).mean()
            loss.backward()  # type: ignore[no-untyped-call]
            for hook in hooks:
                hook(state.step, state.model)
            try:
                state.update(loss)
                run.log_if_due(state)
            except NonFinite as error:
                raise NonFinite(f"step {state.step}: {first_bad(run, state, batches) or error}") from None
            run.checkpoint_if_due(state)
            if stop.is_set() and state.step < run.config.steps:
                run.checkpoint(state)
                raise Stopped(f"stopped at step {state.step} of {run.config.steps}, saved in {run.path}")


def batch_loss(run: Run, model: nn.Module, batches: Batches | Prefetched, step: int) -> Float[Tensor, "B"]:
    """Loss per sample on the batch of a step: a pure function of (weights, seed, rank, step)."""
    rng = generator("train", run.config.seed, batches.rank, step, device=run.device)
    x, y = batches.at(step)
    x = x.to(run.device, non_blocking=True)
    y = None if y is None else y.to(run.device, non_blocking=True)
    y = drop_labels(y, run.null_label, run.config.model.class_dropout_prob, rng)
    return run.process.loss(model, x, y, rng)


def drop_labels(y: Labels | None, null_label: int | None, probability: float, rng: torch.Generator) -> Labels | None:
    """Labels with each replaced by the null class with the given probability (classifier-free guidance's dropout)."""
    if y is None or null_label is None:
        return y
    dropped = torch.rand(y.shape, generator=rng, device=y.device) < probability
    return torch.where(dropped, null_label, y)


def run_order(run: Run, state: TrainState, batches: Batches | Prefetched) -> Order:
    """What the run's scheme holds, and until when: measured on the fresh model once, then kept with the run."""
    order = run.saved_order()
    if order is None:

        def loss(model: nn.Module, iteration: int) -> Tensor:
            return batch_loss(run, model, batches, iteration).mean()

        order = order_to_hold(state.model, run.config.scheme, loss, run.config.seed)
        refuse_weight_decay(order, run.config.optim.weight_decay)
        if order:
            run.save_order(order)
    return order


def first_bad(run: Run, state: TrainState, batches: Batches | Prefetched) -> str | None:
    """The first parameter, else the first module output in forward order, that is not finite on the newest batch."""
    for name, parameter in state.model.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            return f"the weights {name!r} are not finite"
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
    with torch.no_grad():
        batch_loss(run, state.model, batches, state.step)
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
