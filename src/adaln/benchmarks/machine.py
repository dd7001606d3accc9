"""Seconds of things that take turns, so that a change of the machine's load meets all of them; and its own limits.

The limits are what it can do at best: products of matrices, copies in memory, reads of a file.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F

from adaln.benchmarks.options import MachineOptions
from adaln.execution import Precision, num_threads, processor
from adaln.products import HAS_WIDE_PRODUCT, wide_product
from adaln.progress import progress
from adaln.rng import generator
from adaln.runs.manifest import environment

PRODUCT_SIZES = ((2048, 384, 1536), (2048, 1536, 384), (2048, 2048, 2048))
"""Rows, inner width, columns, on a CPU: the MLP of DiT-S/2 at batch 8, and a larger one."""
PRODUCT_SIZES_ON_GPU = ((16384, 1152, 4608), (16384, 4608, 1152), (8192, 8192, 8192))
"""The same on a GPU: the MLP of DiT-XL/2 at batch 64."""
PRODUCTS_AT_ONCE_ON_GPU = 16
"""One product there takes a fraction of a millisecond, of which launching it and waiting for it would be a part."""
SPEED_VARIABLES = ("KMP_AFFINITY", "KMP_BLOCKTIME", "LD_PRELOAD", "MALLOC_", "MKL_", "OMP_", "ONEDNN_")
"""How the names of environment variables begin that libraries of products, threads and memory listen to."""
COPY_BYTES = 1 << 28
READ_BYTES = 1 << 20
FILE_BYTES = 1 << 28
Clock = Literal["wall", "processor"]


@dataclass(frozen=True, slots=True)
class Taken:
    """Seconds of one call."""

    wall: float
    processor: float
    """Of all threads: what other work on the machine lengthens less."""


@dataclass(frozen=True, slots=True)
class Turns:
    """Every call's seconds, by contender."""

    taken: Mapping[str, list[Taken]]

    def median(self, clock: Clock = "wall") -> dict[str, float]:
        """The middle of each contender's turns: what it takes beside whatever else the machine does."""
        return {name: statistics.median(getattr(t, clock) for t in turns) for name, turns in self.taken.items()}

    def least(self, clock: Clock = "wall") -> dict[str, float]:
        """The shortest of each contender's turns: what it takes while the machine does nothing else."""
        return {name: min(getattr(t, clock) for t in turns) for name, turns in self.taken.items()}


def seconds_of(work: Callable[[], object]) -> Taken:
    """Seconds of one call, the device's queue emptied before and after."""
    synchronize()
    wall, processor = time.perf_counter(), time.process_time()
    work()
    synchronize()
    return Taken(time.perf_counter() - wall, time.process_time() - processor)


def in_turns(
    contenders: Mapping[str, Callable[[], object]], repeats: int, before: Callable[[], object] | None = None
) -> Turns:
    """Each contender once in every turn; a first turn, in which caches fill and kernels are chosen, is not counted.

    `before` each of them something may be called whose time is not taken.
    """
    taken: dict[str, list[Taken]] = {name: [] for name in contenders}
    for turn in range(repeats + 1):
        progress(f"time {', '.join(contenders)}", turn, repeats + 1, "turns")
        for name, work in contenders.items():
            if before is not None:
                before()
            seconds = seconds_of(work)
            if turn:
                taken[name].append(seconds)
    return Turns(taken)


def synchronize() -> None:
    """Wait for the GPU, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def limits(options: MachineOptions) -> dict[str, Any]:
    """Rates of products by kind of number and library, of copying memory and of reading a cached file."""
    device = torch_device(options.device)
    with num_threads(options.threads), tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "file"
        file.write_bytes(os.urandom(READ_BYTES) * (FILE_BYTES // READ_BYTES))
        source = torch.ones(COPY_BYTES // 4, device=device)
        target = torch.empty_like(source)
        multiplied = [*products(device, "float32"), *products(device, "bfloat16")]
        works = {product.name: product.work for product in multiplied}
        works |= {"copy": partial(target.copy_, source), "read": partial(plain_read, file)}
        row = {"machine": machine(device), "repeats": options.repeats}
        turns = in_turns(works, options.repeats)
        least = turns.least()
        return row | {
            "matmul_gigaflops": product_rates(multiplied, turns.median()),
            "copy_gigabytes_per_second": 2 * COPY_BYTES / 1e9 / least["copy"],
            "cached_file_gigabytes_per_second": FILE_BYTES / 1e9 / least["read"],
        }


class Product(NamedTuple):
    """One way of multiplying two matrices."""

    name: str
    kind: str
    """Of numbers, and by which library where there is more than torch's choice."""
    flops: int
    work: Callable[[], object]


def products(device: torch.device, precision: Precision) -> Iterator[Product]:
    """What is timed for `product_rates`; under `matrix_products` where the precision is "tf32"."""
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    sizes, times = (PRODUCT_SIZES, 1) if device.type == "cpu" else (PRODUCT_SIZES_ON_GPU, PRODUCTS_AT_ONCE_ON_GPU)
    for rows, inner, columns in sizes:
        rng = generator("benchmark", rows, inner, columns)
        x, weight = (torch.randn(n, inner, generator=rng).to(device, dtype) for n in (rows, columns))
        works: dict[str, Callable[[], object]] = {precision: partial(F.linear, x, weight)}
        if precision == "float32" and device.type == "cpu" and HAS_WIDE_PRODUCT:
            works["float32 by oneDNN"] = partial(wide_product, x, weight, None)
        for kind, work in works.items():
            flops = times * 2 * rows * inner * columns
            yield Product(f"{kind} {rows}x{inner}x{columns}", kind, flops, partial(repeated, work, times))


def repeated(work: Callable[[], object], times: int) -> object:
    """What the last of so many calls gives."""
    for _ in range(times - 1):
        work()
    return work()


def product_rates(products: Sequence[Product], seconds: Mapping[str, float]) -> dict[str, float]:
    """GFLOP/s by kind: of the size that does best."""
    rates: dict[str, float] = {}
    for product in products:
        rates[product.kind] = max(rates.get(product.kind, 0.0), product.flops / 1e9 / seconds[product.name])
    return rates


def machine(device: torch.device) -> dict[str, Any]:
    """Hardware, versions and what else the machine is doing."""
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "variables": {name: value for name, value in os.environ.items() if name.startswith(SPEED_VARIABLES)},
        **environment(device),
    }


def torch_device(name: str) -> torch.device:
    """The device of a name; `auto` is the GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else torch.device(name)


def plain_read(file: Path) -> None:
    """Every byte once, through one buffer that stays in the cache of a core."""
    buffer = bytearray(READ_BYTES)
    with file.open("rb", buffering=0) as opened:
        while opened.readinto(buffer):
            pass


def resident_bytes(key: str = "VmRSS") -> int:
    """Memory of this process by a key of Linux' /proc/self/status: VmRSS now, VmHWM at its peak.

    `getrusage` would carry over the peak of the process that started this one.
    """
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return 1024 * int(status.split(f"{key}:")[1].split()[0])
