"""What share of the fastest product's rate is left to a training step of DiT-S/2 at batch 8, on one thread.

    OMP_NUM_THREADS=1 python benchmarks/products_alone.py float32|bfloat16 [TURNS]

Its products alone, each of its shape (batch 8, 256 tokens, width 384, 12 blocks, 6 heads of 64), and with them the 44
bytes a parameter that optimiser, average and norms of gradients read and write, as fast as memory is copied. Norms,
softmax, GELU and all else count as nothing. Processor time, all shapes in turns, medians.
ONEDNN_MAX_CPU_ISA=AVX512_CORE_BF16 leaves a processor with AMX what others have.
"""

import statistics
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F

TOKENS, WIDTH, HIDDEN, BATCH, BLOCKS, HEADS = 2048, 384, 1536, 8, 12, 48
PARAMETERS, BYTES_OF_EACH = 33_000_000, 44


class Shape(NamedTuple):
    name: str
    times: int
    flops: int
    work: Callable[[], object]


def shapes(dtype: torch.dtype) -> list[Shape]:
    """A step's products, then the sizes of `adaln bench machine`, and a copy."""

    def random(*size: int) -> torch.Tensor:
        return torch.randn(*size).to(dtype)

    made = []
    maps = {"qkv": (TOKENS, WIDTH, 3 * WIDTH), "projection": (TOKENS, WIDTH, WIDTH), "mlp in": (TOKENS, WIDTH, HIDDEN)}
    maps |= {"mlp out": (TOKENS, HIDDEN, WIDTH), "modulation": (BATCH, WIDTH, 6 * WIDTH)}
    for name, (rows, inner, columns) in maps.items():
        x, w, g, b = random(rows, inner), random(columns, inner), random(rows, columns), random(columns)
        flops = 2 * rows * inner * columns
        made.append(Shape(f"{name}, forward", BLOCKS, flops, lambda x=x, w=w, b=b: F.linear(x, w, b)))
        made.append(Shape(f"{name}, of its input", BLOCKS, flops, lambda g=g, w=w: g @ w))
        made.append(Shape(f"{name}, of its weights", BLOCKS, flops, lambda g=g, x=x: g.T @ x))
    q, p, flops = random(HEADS, 256, 64), random(HEADS, 256, 256), 2 * HEADS * 256 * 256 * 64
    made.append(Shape("attention, q k^T and its like", 2 * BLOCKS, flops, lambda: q @ q.mT))
    made.append(Shape("attention, p v and its like", 2 * BLOCKS, flops, lambda: p @ q))
    made.append(Shape("attention, p^T g and its like", 2 * BLOCKS, flops, lambda: p.mT @ q))
    for rows, inner, columns in ((2048, 384, 1536), (2048, 1536, 384), (2048, 2048, 2048)):
        x, w, name = random(rows, inner), random(columns, inner), f"for the rate {rows}x{inner}x{columns}"
        made.append(Shape(name, 0, 2 * rows * inner * columns, lambda x=x, w=w: F.linear(x, w)))
    source, target = torch.ones(PARAMETERS), torch.empty(PARAMETERS)
    return [*made, Shape("copy", 0, 0, lambda: target.copy_(source))]


def main(precision: str = "float32", turns: str = "5") -> None:
    torch.set_num_threads(1)
    made = shapes({"float32": torch.float32, "bfloat16": torch.bfloat16}[precision])
    taken: dict[str, list[float]] = {shape.name: [] for shape in made}
    for _ in range(int(turns) + 1):
        for shape in made:
            before = time.process_time()
            shape.work()
            taken[shape.name].append(time.process_time() - before)
    seconds = {name: statistics.median(each[1:]) for name, each in taken.items()}
    rates = {shape.name: shape.flops / 1e9 / seconds[shape.name] for shape in made}
    say = sys.stdout.write
    for shape in made[:-1]:
        took = f"{1e3 * seconds[shape.name]:9.2f} ms{rates[shape.name]:8.0f} GFLOP/s"
        say(f"{shape.name:30}{shape.times:4} times{took}\n")
    best = max(rate for name, rate in rates.items() if name.startswith("for the rate"))
    work = sum(shape.times * shape.flops for shape in made) / 1e9
    products = sum(shape.times * seconds[shape.name] for shape in made)
    memory = seconds["copy"] * BYTES_OF_EACH / 8
    say(f"{work:.0f} GFLOP; products alone {products:.2f} s, {work / products / best:.0%} of {best:.0f} GFLOP/s; ")
    say(f"44 bytes a parameter {memory:.2f} s, {work / (products + memory) / best:.0%} with them\n")


main(*sys.argv[1:])
