"""What `adaln.watch` costs, and how far updates of our own runs go: `python benchmarks/watching.py cost|steps|updates`.

cost: a recorded look at the modulation weights of DiT-XL/2 against plain reads of them, in turns, processor time.
steps: 60 updates of a DiT-S/2 with it at its default cadence and 60 without, taking turns, processor time.
updates: from update 100 on the least and largest update ratio of any role or bias, by how much the rms of any
|1 + scale| grew, and the largest rms of any role, digits at their own learning rate.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import torch
from torch import nn

import adaln
from adaln.analysis.recorder import read_recording
from adaln.models import MODELS, build
from adaln.rng import generator
from adaln.runs import Run
from adaln.specs import DataSpec
from adaln.training import batch_loss

SCHEMES = ("adaln", "adaln-zero", "adaln-step1", "adaln-mix", "adaln-gaussian", "torch-default")


class Modulation(nn.Module):
    """The modulation of a DiT's block, by its published names."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attn, self.mlp = nn.Linear(1, 1), nn.Linear(1, 1)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))


class Blocks(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Modulation(1152) for _ in range(28))


def seconds(do: Callable[[], object]) -> float:
    """Of processor time."""
    begun = time.process_time()
    do()
    return time.process_time() - begun


def cost(folder: Path) -> None:
    network = Blocks()
    weights = [tensor for name, tensor in network.named_parameters() if name.endswith("1.weight")]
    for parameter in network.parameters():
        parameter.grad = torch.randn_like(parameter)
    watched = adaln.watch(network, to=folder, every=3)
    reads, recorded, kept = [], [], []
    for number in range(1, 31):
        reads.append(seconds(lambda: [weight.detach().sum() for weight in weights]))
        (recorded if number % 3 == 0 else kept).append(seconds(watched.step))
    row = {"plain read": reads, "recorded step": recorded, "steps before one": kept}
    sys.stdout.write(f"{ {name: round(median(values), 4) for name, values in row.items()} }\n")


def steps(folder: Path) -> None:
    """The first 60 hold most of the records of any training: 7 of 23."""
    spec, times = DataSpec(4, 32, 32, 1000), {}
    for name in ("without", "with"):
        network = build(MODELS["DiT-S/2"], spec, generator("watching"))
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)
        watched = adaln.watch(network, optimizer, to=folder) if name == "with" else None
        times[name] = (network, optimizer, watched, [])
    x, t, y = torch.randn(2, 4, 32, 32), torch.tensor([10, 500]), torch.tensor([0, 1])

    def step(network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        network(x, t, y).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    for _ in range(60):
        for network, optimizer, _, taken in times.values():
            taken.append(seconds(partial(step, network, optimizer)))
    row = {
        name: {"sum": round(sum(taken), 2), "median": round(median(taken), 4)} for name, (*_, taken) in times.items()
    }
    ratio = sum(times["with"][3]) / sum(times["without"][3])
    sys.stdout.write(f"{row}, with / without: {ratio:.4f}\n")


def updates(folder: Path) -> None:
    for scheme in SCHEMES:
        config = adaln.preset("digits", scheme=scheme, steps=400)
        run = Run.planned(config, folder)
        network, batches = run.new_model(), run.batches()
        adaln.initialise(network, scheme)
        optimizer = torch.optim.AdamW(network.parameters(), lr=config.optim.lr, weight_decay=0.0)
        watched = adaln.watch(network, optimizer, to=folder / scheme, every=25)
        for step in range(config.steps):
            batch_loss(run, network, batches, step).mean().backward()
            optimizer.step()
            optimizer.zero_grad()
        recorded = [
            (record.update_ratio, record.group.name)
            for record in read_recording(watched.folder / "analysis" / "roles.jsonl")
            if record.step >= 100 and record.update_ratio
        ]
        sizes = watched._history.sizes
        late = [[size for step, size in of if step >= 100] for group, of in sizes.items() if "scale" in group.name]
        growth = max(scales[-1] / min(scales) for scales in late)
        largest = max(size for of in sizes.values() for _, size in of)
        least, most = (f"{ratio:.4f} ({name})" for ratio, name in (min(recorded), max(recorded)))
        sys.stdout.write(f"{scheme}: {least} to {most}, |1 + scale| x {growth:.2f}, rms up to {largest:.2f}\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as made:
        {"cost": cost, "steps": steps, "updates": updates}[sys.argv[1]](Path(made) / "watched")
