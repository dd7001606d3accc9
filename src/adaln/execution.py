"""How a run is computed, apart from what it is: precision of the matrix products, compiled and recomputed blocks."""

import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from adaln.files import default_cache, write_atomically
from adaln.products import widen_products
from adaln.progress import note
from adaln.specs import DEFAULT_EXECUTION as DEFAULT_EXECUTION
from adaln.specs import Execution as Execution
from adaln.specs import Precision as Precision
from adaln.types import Labels, Latents, Model, Times

ROWS = {"cpu": 512, "cuda": 65_536}
"""Of the product that is timed: a few milliseconds for the widest network."""
MOST_KINDS_OF_BLOCKS = 64
"""Compilations of one `forward`: by shape, by precision, with and without gradients. After 8 torch would stop."""
Backend = str | Callable[[torch.fx.GraphModule, list[Any]], Callable[..., Any]]
"""Of torch.compile: a registered name, or what makes a function of a graph and its example inputs."""


def check_precision(precision: Precision, device: torch.device) -> None:
    """`ValueError` where a device cannot compute in a precision, with what it can."""
    is_ampere = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
    can = {
        "float32": True,
        "tf32": is_ampere,
        "bfloat16": is_ampere or (device.type != "cuda" and torch.amp.is_autocast_available(device.type)),
    }
    if not can[precision]:
        there = ", ".join(name for name, possible in can.items() if possible)
        raise ValueError(f"precision {precision!r} is not to be had on device {str(device)!r}; there are: {there}")


def check_parts(execution: Execution, batch_size: int) -> None:
    """`ValueError` where a process's share of a batch does not fall into equal parts."""
    parts = execution.micro_batches
    if batch_size % parts:
        nearest = min((n for n in range(1, batch_size + 1) if batch_size % n == 0), key=lambda n: abs(n - parts))
        raise ValueError(
            f"micro_batches is {parts}; expected a divisor of the {batch_size} images per process (nearest: {nearest})"
        )


@contextmanager
def matrix_products(precision: Precision) -> Iterator[None]:
    """While the block lasts, float32 products and convolutions on CUDA are in TF32 for "tf32", else in full float32."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


@contextmanager
def deterministic_kernels() -> Iterator[None]:
    """While the block lasts, torch takes kernels that give the same bits every time, and raises where there is none."""
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    filling = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS's condition
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.utils.deterministic.fill_uninitialized_memory = filling  # type: ignore[attr-defined]


def processor() -> str:
    """The processor's own name, where Linux tells, else its architecture."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    return next((line.split(": ")[1] for line in lines if line.startswith("model name")), platform.machine())


@contextmanager
def num_threads(wanted: int | None) -> Iterator[None]:
    """Compute with so many threads of torch's in this block; None: with as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(wanted or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[None]:
    """What the network's forward is to run under."""
    context: AbstractContextManager[None] = torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")
    return context


def under_autocast(model: Model, precision: Precision) -> Model:
    """A network that computes in a precision and answers in its input's."""

    def network(x: Latents, t: Times, y: Labels | None) -> Tensor:
        with autocast(precision, x.device):
            output: Tensor = model(x, t, y)
        return output.to(x.dtype)

    return network


def blocks(model: nn.Module) -> list[nn.Module]:
    """The repeated parts of a network: what its outermost lists of modules hold, in order of declaration."""
    found: list[nn.Module] = []
    for child in model.children():
        found += child if isinstance(child, nn.ModuleList) else blocks(child)
    return found


def prepare_blocks(model: nn.Module, execution: Execution, backend: Backend | None = None) -> None:
    """Compile and checkpoint the blocks as asked, in place; modules, parameters and their names stay as they are.

    All linear maps, those outside of blocks too, take the processor's fastest product (`adaln.products`), and a network
    that knows a shorter way to its output (`fused`) goes it unless blocks are to be compiled or checkpointed.
    What a block's class does in `forward` is compiled once for all of its equals, and checkpointing goes around it. A
    block that cannot be compiled as a whole raises torch's error: none is computed uncompiled unsaid. `backend` is
    torch.compile's; without it `recompute`, but on a CPU, which has memory rather than time, torch's own.
    """
    widen_products(model)
    on_cpu = next(model.parameters()).device.type == "cpu"
    chosen: Backend = backend or ("inductor" if on_cpu else recompute)
    if execution.compile:
        from torch._dynamo import config  # a second that nobody else is to wait for

        config.recompile_limit = max(config.recompile_limit, MOST_KINDS_OF_BLOCKS)
        config.optimize_ddp = False  # it would cut each block in pieces where DDP's buckets end
        note("blocks are compiled in the first pass, which takes longer for it")
    if not execution.compile and not execution.checkpoint_blocks and (fused := getattr(model, "fused", None)):
        model.forward = fused
    for index, block in enumerate(blocks(model)):
        if execution.compile:
            block.forward = torch.compile(block.forward, backend=chosen, dynamic=False, fullgraph=True)
        if execution.checkpoint_blocks and index % execution.checkpoint_blocks == 0:
            block.forward = partial(checkpoint, block.forward, use_reentrant=False, preserve_rng_state=False)


def recompute(graph: torch.fx.GraphModule, inputs: list[Any]) -> Callable[..., Any]:
    """torch.compile's own backend, which keeps for the backward pass what products and attention gave, and little else.

    Norms, modulation and activations are computed again there, in the same kernels that need them: two thirds of the
    memory (`adaln bench memory`). On a GPU those kernels wait for memory anyway; a CPU takes longer for it.
    """
    with torch._functorch.config.patch(ban_recompute_materialized_backward=False):
        compiled: Callable[..., Any] = torch._inductor.compile(graph, inputs)
    return compiled


def usable(execution: Execution, device: torch.device) -> Execution:
    """What can be done of `execution` here: nothing is compiled where no compiler works, and standard error says so."""
    fault = compiler_fault(device.type) if execution.compile else None
    if fault is None:
        return execution
    sys.stderr.write(f"adaln: going on uncompiled, since torch.compile does not work here: {fault}\n")
    return replace(execution, compile=False)


@cache
def compiler_fault(device_type: str) -> str | None:
    """Why a function of one line cannot be compiled for a kind of device; None where it can."""
    try:
        torch.compile(lambda x: x.sin() + 1, dynamic=False)(torch.zeros(8, device=device_type))
    except Exception as error:  # of the compiler's many kinds
        return (str(error).strip() or repr(error)).splitlines()[0]
    return None


def kept_rate(width: int, precision: Precision, device: torch.device) -> float:
    """`product_rate`, measured once on a machine: kept in the user's cache under all that may change it."""
    accelerator = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
    name = f"{accelerator}, torch {torch.__version__}, {precision}, width {width}"
    file = default_cache() / "product-rates.json"
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
        rates = {key: float(rate) for key, rate in kept.items() if rate > 0}
    except (OSError, ValueError, AttributeError, TypeError):  # none yet, or not to be read: it is made anew
        rates = {}
    if name not in rates:
        rates[name] = product_rate(width, precision, device)
        with suppress(OSError):  # a cache that cannot be written keeps nothing
            write_atomically(file, json.dumps(rates, indent=1) + "\n")
    return rates[name]


def product_rate(width: int, precision: Precision, device: torch.device) -> float:
    """Floating-point operations per second of one core or GPU in a product of an MLP of that width, measured.

    What is not a product counts as nothing, so that time by this rate is the least that it can take.
    """
    rows = ROWS.get(device.type, ROWS["cpu"])
    x, w = torch.ones(rows, width, device=device), torch.ones(width, 4 * width, device=device)
    seconds = []
    with num_threads(1), autocast(precision, device), torch.inference_mode():
        for _ in range(4):
            start = _now(device)
            x @ w
            seconds.append(_now(device) - start)
    return 2 * rows * width * 4 * width / min(seconds[1:])


def _now(device: torch.device) -> float:
    """Of this thread's processor, whatever else a machine does; of a GPU when all of its work is done."""
    if device.type != "cuda":
        return time.thread_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()
