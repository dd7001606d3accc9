"""A training step of ours and of the peer: its time beside products of matrices, and the memory that it keeps.

What the forward pass keeps for the backward one is counted, so no GPU is needed for it.
"""

from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from adaln.benchmarks.machine import in_turns, machine, products, torch_device
from adaln.benchmarks.options import MemoryOptions, TrainOptions
from adaln.benchmarks.peer import (
    CONTENDERS,
    LATENTS,
    Step,
    busy_model,
    called_like_ours,
    compared,
    made,
    peer_of,
)
from adaln.config import OptimConfig
from adaln.execution import (
    Execution,
    Precision,
    autocast,
    check_precision,
    matrix_products,
    num_threads,
    prepare_blocks,
    recompute,
    under_autocast,
)
from adaln.models import MODELS, DiTConfig, flops, num_parameters
from adaln.processes import PROCESSES
from adaln.rng import generator
from adaln.training import TrainState
from adaln.training.loss import Inputs
from adaln.types import Model

PROCESS = PROCESSES["ddpm"].build()
CPU = torch.device("cpu")
HEADS = 4
"""Times as many as the model has: of narrow heads our attention is torch's fused kernel on a CPU, too, as on a GPU."""


def train_step(options: TrainOptions) -> dict[str, Any]:
    """Seconds of a step (forward, backward, AdamW, average) of both sides, and their shares of the product rates."""
    device = torch_device(options.device)
    with num_threads(options.threads):
        row: dict[str, Any] = {"machine": machine(device), "options": asdict(options)}
        return row | {precision: in_precision(options, precision, device) for precision in options.precision}


def in_precision(options: TrainOptions, precision: Precision, device: torch.device) -> dict[str, Any]:
    """Both sides on the same batch from the same weights, and bare products, all in turns."""
    check_precision(precision, device)
    config = MODELS[options.model]
    batch = batch_of(options.batch_size, device)
    multiplied = list(products(device, precision))
    loss = partial(loss_of, batch, precision)
    sides = {
        "ours": lambda: our_step(busy_model(config, device), loss, options),
        "diffusers": lambda: peer_step(peer_of(busy_model(config, device), config, LATENTS), loss, options),
    }
    with matrix_products(precision):
        measured, left_out = made({name: partial(measure, make, device) for name, make in sides.items()})
        works: dict[str, Step] = {name: found.step for name, found in measured.items()}
        works |= {product.name: product.work for product in multiplied}
        turns = in_turns(works, options.repeats)
    found = compared(3 * flops(config, LATENTS) * options.batch_size, turns, multiplied)
    seconds = found["median"]["seconds"]
    return {
        "left_out": left_out,
        "loss_of_first_step": {name: found.loss for name, found in measured.items()},
        "peak_bytes": {name: found.peak_bytes for name, found in measured.items()},
        "images_per_second": {name: options.batch_size / seconds[name] for name in seconds},
        **found,
    }


class Measured(NamedTuple):
    """A side that has made its first step."""

    step: Callable[[], Tensor]
    loss: float
    peak_bytes: int | None
    """Device memory at the peak of a later step, weights included; None: not on a GPU."""


def measure(make: Callable[[], Callable[[], Tensor]], device: torch.device) -> Measured:
    """Build a side, make its first steps, and see how much memory they take beside what was held before."""
    on_gpu = device.type == "cuda"
    before = torch.cuda.memory_allocated(device) if on_gpu else 0
    step = make()
    loss = float(step())
    if not on_gpu:
        return Measured(step, loss, None)
    torch.cuda.reset_peak_memory_stats(device)
    step()
    return Measured(step, loss, torch.cuda.max_memory_allocated(device) - before)


def batch_of(size: int, device: torch.device) -> Inputs:
    """Made-up latents with labels, steps and noise."""
    shape = (size, LATENTS.channels, LATENTS.height, LATENTS.width)
    rng = generator("benchmark", size)
    t, noise = PROCESS.draw(shape, rng)
    x, y = torch.randn(shape, generator=rng), torch.randint(LATENTS.num_classes, (size,), generator=rng)
    return Inputs(*(rows.to(device) for rows in (x, y, t, noise)))


def loss_of(batch: Inputs, precision: Precision, model: Model) -> Tensor:
    """Mean loss, the forward in a precision: for both sides the same."""
    return PROCESS.loss(under_autocast(model, precision), *batch).mean()


def our_step(model: nn.Module, loss: Callable[[Model], Tensor], options: TrainOptions) -> Callable[[], Tensor]:
    """What `adaln train` does in a step."""
    state = TrainState(model, OptimConfig())
    prepare_blocks(model, Execution(compile=options.compile != "none", checkpoint_blocks=int(options.checkpoint)))

    def step() -> Tensor:
        value = loss(model)
        value.backward()  # type: ignore[no-untyped-call]
        state.update(value)
        return value.detach()

    return step


def peer_step(peer: nn.Module, loss: Callable[[Model], Tensor], options: TrainOptions) -> Callable[[], Tensor]:
    """What the peer's users write: AdamW as torch gives it, gradients cleared, diffusers' own moving average."""
    from diffusers.training_utils import EMAModel

    optim = OptimConfig()
    optimizer = torch.optim.AdamW(peer.parameters(), lr=optim.lr, weight_decay=optim.weight_decay)
    average = EMAModel(peer.parameters(), decay=optim.ema_decay)
    if options.checkpoint:
        peer.enable_gradient_checkpointing()  # type: ignore[operator]
    if options.compile == "both":
        peer.compile()
    network = called_like_ours(peer)

    def step() -> Tensor:
        value = loss(network)
        value.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
        average.step(peer.parameters())
        return value.detach()

    return step


def kept_for_backward(options: MemoryOptions) -> dict[str, Any]:
    """What a block of both sides keeps under bfloat16 autocast, as it comes and compiled."""
    config = MODELS[options.model]
    if not isinstance(config, DiTConfig):
        raise ValueError(f"model is {options.model!r}; expected a DiT: diffusers has no other network like ours")
    row: dict[str, Any] = {"machine": machine(CPU), "options": asdict(options)}
    for how in ("as it comes", "compiled"):
        kept = {side: of_one_block(side, config, how == "compiled") for side in CONTENDERS}
        ratio = kept["ours"]["per_token_and_channel"] / kept["diffusers"]["per_token_and_channel"]
        row[how] = {**kept, "ours of diffusers": ratio}
    return row


def of_one_block(side: str, config: DiTConfig, is_compiled: bool) -> dict[str, float]:
    """What one more block keeps, in bytes; per weight copies of the weights, whatever the batch.

    From what one more block and one more sample add, and what they add to each other.
    """
    kept = {
        (depth, batch): kept_bytes(*network(side, replace(config, depth=depth), is_compiled), batch)
        for depth in (1, 2)
        for batch in (1, 2)
    }
    tokens = LATENTS.height * LATENTS.width // config.patch_size**2
    of_block = kept[2, 1] - kept[1, 1]
    of_sample = kept[2, 2] - kept[1, 2] - of_block
    weights = num_parameters(replace(config, depth=2), LATENTS) - num_parameters(replace(config, depth=1), LATENTS)
    return {
        "per_token_and_channel": of_sample / (tokens * config.hidden_size),
        "per_weight": (of_block - of_sample) / weights,
    }


def network(side: str, config: DiTConfig, is_compiled: bool) -> tuple[nn.Module, Model]:
    """One side's network, and how it is called."""
    torch.compiler.reset()
    config = replace(config, num_heads=HEADS * config.num_heads)
    model = busy_model(config, CPU)
    if side == "ours":
        prepare_blocks(model, Execution(compile=is_compiled), recompute)  # as on a GPU
        return model, model
    peer = peer_of(model, config, LATENTS)
    if is_compiled:
        peer.compile()
    return peer, called_like_ours(peer)


def kept_bytes(network: nn.Module, model: Model, batch: int) -> int:
    """Memory that a forward pass leaves to the backward one, the network's own weights apart; shared memory once."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: Tensor) -> Tensor:
        memory = tensor.untyped_storage()
        if memory.data_ptr() not in weights:
            kept[memory.data_ptr()] = memory
        return tensor

    x, y, t, _ = batch_of(batch, CPU)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), autocast("bfloat16", CPU):
        model(x, t, y)
    return sum(memory.nbytes() for memory in kept.values())
