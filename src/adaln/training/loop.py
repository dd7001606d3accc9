"""The training loop."""

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from types import FrameType

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

from adaln.conditioning import holding
from adaln.data import Batches, Prefetched
from adaln.execution import (
    DEFAULT_EXECUTION,
    Execution,
    check_parts,
    check_precision,
    deterministic_kernels,
    matrix_products,
    prepare_blocks,
    usable,
)
from adaln.parallel import any_of, data_parallel, from_first, no_sync, whole, world
from adaln.progress import describing, note, progress
from adaln.runs import Run
from adaln.training.ema_and_optimizer import TrainState
from adaln.training.loss import Inputs, inputs, loss_of
from adaln.training.resume import exclusive, resume_or_start, run_order, save, save_if_due
from adaln.training.small_step import small_step
from adaln.training.speed import Speed
from adaln.training.trackers import log_if_due
from adaln.types import Hook, NonFinite, OnLog

IN_ONE_STEP = 64
"""Processes that agree in every step on whether to stop; more of them, whose answers take longer, in as many fewer."""


class Stopped(KeyboardInterrupt):
    """Training was asked to stop and has saved; the message says how to go on."""


def train(
    run: Run, hooks: Sequence[Hook] = (), execution: Execution = DEFAULT_EXECUTION, on_log: Sequence[OnLog] = ()
) -> None:
    """Train to `run.config.steps`, from the newest checkpoint if there is one; all processes of a group together.

    Batches, times, noise and label dropout are functions of (seed, step, position in the batch), so a resumed run is
    the same run bit for bit on one device (a GPU needs `execution.deterministic`), and several processes learn from
    what one would. SIGTERM and Ctrl-C save and raise `Stopped`; a loss or gradient that is not finite raises
    `NonFinite` naming the first tensor that went wrong, with the last good checkpoint untouched. A checkpoint that
    cannot be written raises `OSError` a step or more later, the last one before the end.

    `hooks` are called in every step of every process, `on_log` with each line of metrics.jsonl in the first process,
    after it was written; what they raise ends the training. A resumed run logs again what came after its checkpoint.
    """
    execution = usable(execution, run.device)
    check_precision(run.config.precision, run.device)
    share = run.batches()
    check_parts(execution, share.batch_size)
    run.path.mkdir(parents=True, exist_ok=True)
    speed = Speed(run)
    on_log = [*on_log, speed.log]
    with (
        exclusive(run),
        deterministic_kernels() if execution.deterministic else nullcontext(),
        stop_requests() as stop,
        Prefetched(share, pin=run.device.type == "cuda") as batches,
        describing(speed.words),
    ):
        state = resume_or_start(run, execution)
        speed.start(state)
        hooks = (holding(run_order(run, execution)), *hooks)
        prepare_blocks(state.model, execution)
        network = data_parallel(state.model)
        at_once = small_step(run, network) if execution.micro_batches == 1 else None
        show_steps(run, state)
        while state.step < run.config.steps:
            batch = inputs(run, batches, state.step)
            losses = at_once(batch) if at_once else None
            loss = accumulate(run, network, batch, execution.micro_batches) if losses is None else losses.mean()
            for hook in hooks:
                hook(state.step, state.model)
            update(run, state, loss, batches, on_log)
            save_if_due(run, state)
            show_steps(run, state)
            speed.say_if_long(state)
            stop_if_asked(run, state, stop)
        run.checkpoints.settle()


def update(run: Run, state: TrainState, loss: Tensor, batches: Prefetched, on_log: Sequence[OnLog]) -> None:
    """One update and its line of the log; `NonFinite` names what went wrong first."""
    try:
        state.update(loss)
        log_if_due(run, state, on_log)
    except NonFinite as error:
        raise NonFinite(f"step {state.step}: {first_bad(run, state, batches) or error}") from None


def show_steps(run: Run, state: TrainState) -> None:
    """The steps that are done, as progress."""
    progress(f"train {run.path.name}", state.step, run.config.steps, "steps")


def accumulate(run: Run, network: nn.Module, batch: Inputs, num_parts: int) -> Float[Tensor, ""]:
    """Add the gradient of the mean loss over a batch, one part after the other; returns that loss."""
    count, total = len(batch.x), torch.zeros((), device=run.device)
    *others, last = batch.split(count // num_parts)
    for part in (*others, last):
        with matrix_products(run.config.precision), nullcontext() if part is last else no_sync(network):
            loss = loss_of(run, network, part).sum() / count
            loss.backward()  # type: ignore[no-untyped-call]
        total += loss.detach()
    return total


def first_bad(run: Run, state: TrainState, batches: Batches | Prefetched) -> str | None:
    """What is not finite on the newest batch: the first parameter, the batch, else the first output of a module."""
    for name, parameter in state.model.named_parameters():
        if not bool(torch.isfinite(whole(parameter)).all()):
            return f"the weights {name!r} are not finite"
    batch = inputs(run, batches, state.step)
    if not bool(torch.isfinite(batch.x).all()):
        return f"the images or latents of the batch, from {run.config.data.path!r}, are not finite"
    names = {module: name for name, module in state.model.named_modules() if not list(module.children())}
    found: list[str] = []

    def look(module: nn.Module, inputs: object, output: object) -> None:
        is_bad = module in names and isinstance(output, Tensor) and not bool(torch.isfinite(output).all())
        if is_bad and not found:
            found.append(f"the output of {names[module]!r} is not finite")

    with register_module_forward_hook(look), torch.no_grad(), torch.compiler.set_stance("force_eager"):
        loss_of(run, state.model, batch)
    return found[0] if found else None


def stop_if_asked(run: Run, state: TrainState, stop: threading.Event) -> None:
    """Save and raise `Stopped` before the last step where any process was asked to stop."""
    is_time_to_agree = state.step % (1 + world() // IN_ONE_STEP) == 0
    if is_time_to_agree and any_of(stop.is_set()) and state.step < run.config.steps:
        if state.step not in from_first(run.steps_saved):
            save(run, state)
        raise Stopped(f"stopped at step {state.step} of {run.config.steps}, saved in {run.path}")


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
        with suppress(RuntimeError):  # what it interrupts may be writing a line of its own
            note("stopping after this step, and saving; Ctrl-C again ends at once")

    previous = {number: signal.signal(number, request) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
