"""How long a step takes on this machine: of the network itself, on random images, before anything is begun."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import torch

from adaln.config import RunConfig
from adaln.execution import DEFAULT_EXECUTION, prepare_blocks
from adaln.models import build, num_parameters
from adaln.rng import generator
from adaln.runs import Run
from adaln.specs import DataSpec
from adaln.training.loop import accumulate
from adaln.training.loss import Inputs
from adaln.training.small_step import small_step

LARGEST = 100_000_000
"""Parameters up to which a network is made for it."""
FEW, MANY = 2, 32
"""Images of the first step, and of those that follow where that was quick."""
QUICK_SECONDS, PATIENCE_SECONDS = 0.2, 0.3


def seconds_per_image(config: RunConfig, spec: DataSpec, device: torch.device) -> float | None:
    """Of a training step without its optimiser, as torch has its threads now; None for what is too large to be made."""
    if num_parameters(config.model, spec) > LARGEST:
        return None
    run, rng = Run(Path(os.devnull), config, device), generator("trial", device=device)
    model = build(config.model, spec, generator("trial")).to(device)
    prepare_blocks(model, DEFAULT_EXECUTION)
    at_once = small_step(run, model)

    def step(count: int) -> Callable[[], float]:
        t, noise = run.process.draw((count, spec.channels, spec.height, spec.width), rng)
        labels = torch.zeros(count, dtype=torch.int64, device=device) if spec.num_classes else None
        batch = Inputs(noise.flip(0), labels, t, noise)

        def once() -> float:
            start = time.perf_counter()
            if at_once is None or at_once(batch) is None:
                accumulate(run, model, batch, 1).item()
            return time.perf_counter() - start

        return once

    few = step(min(FEW, config.batch_size))
    few()
    if (seconds := few()) > QUICK_SECONDS:
        return seconds / min(FEW, config.batch_size)
    many, taken = step(min(MANY, config.batch_size)), list[float]()
    while sum(taken) < PATIENCE_SECONDS:
        taken.append(many())
    return sorted(taken)[len(taken) // 2] / min(MANY, config.batch_size)
