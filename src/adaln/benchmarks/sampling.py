"""A step of guided sampling of ours and of the peer, beside the products that the machine could have done."""

# mypy: disable-error-code="no-untyped-call"

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from adaln.benchmarks.machine import in_turns, machine, num_threads, products, torch_device
from adaln.benchmarks.peer import LATENTS, Compiled, Step, busy_model, called_like_ours, compared, peer_of
from adaln.execution import Precision, check_precision, matrix_products
from adaln.models import MODELS, flops
from adaln.processes import PROCESSES, Guidance, SamplerConfig, guided, solve
from adaln.rng import generator
from adaln.sampling.networks import SampleExecution, computing
from adaln.sampling.sampler import seeded_draw
from adaln.types import Model

STEPS = 250
"""Of a whole sample, as in published scores; `repeats` of them are timed."""
SCALE = 1.5


@dataclass(frozen=True, slots=True)
class SampleOptions:
    """What to sample from, and how."""

    model: str = "DiT-S/2"
    """A DiT of `adaln models`, on latents of 32 x 32 x 4."""
    batch_size: int = 8
    """Images drawn together; guidance doubles what the network sees."""
    precision: tuple[Precision, ...] = ("float32", "bfloat16")
    """bfloat16: ours under autocast, the peer's with weights of bfloat16, as its users have them."""
    compile: Compiled = "none"
    """torch.compile: ours by block, the peer's as a whole."""
    cuda_graph: bool = False
    """Replay our network as one CUDA graph."""
    repeats: int = 10
    """Solver steps that are timed, of 250; medians and least times are reported."""
    threads: int | None = None
    """Threads on the CPU; default: as many as torch takes."""
    device: str = "auto"
    """cpu, cuda, or auto."""

    def __post_init__(self) -> None:
        if not 1 <= self.repeats < STEPS:
            raise ValueError(f"repeats is {self.repeats}; expected 1 to {STEPS - 1} of the {STEPS} steps")


def sample_step(options: SampleOptions) -> dict[str, Any]:
    """Seconds of a solver step with guidance of both sides, their shares of the product rates, images per second."""
    device = torch_device(options.device)
    with num_threads(options.threads):
        row = {"machine": machine(device), "options": asdict(options), "steps": STEPS}
        return row | {precision: in_precision(options, precision, device) for precision in options.precision}


@torch.no_grad()
def in_precision(options: SampleOptions, precision: Precision, device: torch.device) -> dict[str, Any]:
    """Both sides from the same noise and weights, and bare products, all in turns."""
    check_precision(precision, device)
    config, start = MODELS[options.model], noise_and_labels(options.batch_size, device)
    multiplied = list(products(device, precision))
    model = busy_model(config, device).eval().requires_grad_(False)
    peer = peer_of(model, config, LATENTS).eval().requires_grad_(False)
    with matrix_products(precision):
        works: dict[str, Step] = {
            "ours": our_steps(model, start, precision, SampleExecution(options.compile != "none", options.cuda_graph)),
            "diffusers": peer_steps(peer, start, precision, options.compile == "both"),
            **{product.name: product.work for product in multiplied},
        }
        turns = in_turns(works, options.repeats)
    found = compared(2 * flops(config, LATENTS) * options.batch_size, turns, multiplied)
    seconds = found["median"]["seconds"]
    return found | {"images_per_second": {side: options.batch_size / STEPS / seconds[side] for side in seconds}}


class Start(NamedTuple):
    """What a sample starts from."""

    noise: Tensor
    labels: Tensor


def noise_and_labels(size: int, device: torch.device) -> Start:
    """Standard normal latents, and classes."""
    rng = generator("benchmark sample", size)
    noise = torch.randn(size, LATENTS.channels, LATENTS.height, LATENTS.width, generator=rng)
    return Start(noise.to(device), torch.randint(LATENTS.num_classes, (size,), generator=rng).to(device))


def our_steps(model: nn.Module, start: Start, precision: Precision, execution: SampleExecution) -> Step:
    """What `adaln sample` does in a step: DDPM with learned variances, both guided halves in one forward."""
    network = computing(model, precision, execution)
    draw = seeded_draw(0, range(len(start.noise)), start.noise.shape[1:], start.noise.device)
    denoiser = guided(network, start.labels, LATENTS.num_classes, Guidance(SCALE))
    process = PROCESSES["ddpm"].build()
    states = solve(process, denoiser, start.noise, draw, SamplerConfig(steps=STEPS))
    return lambda: next(states)


def peer_steps(peer: nn.Module, start: Start, precision: Precision, compiled: bool) -> Callable[[], Tensor]:
    """What diffusers' DiT pipeline does in a step: its DDIM scheduler, both guided halves in one forward."""
    from diffusers import DDIMScheduler

    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    model = called_like_ours(nn.Module.to(peer, dtype))
    if compiled:
        peer.compile()
    scheduler: Any = DDIMScheduler(beta_schedule="linear", beta_start=1e-4, beta_end=0.02, clip_sample=False)
    scheduler.set_timesteps(STEPS, device=start.noise.device)
    times, x = iter(scheduler.timesteps), start.noise.to(dtype)
    labels = torch.cat([start.labels, torch.full_like(start.labels, LATENTS.num_classes)])

    def step() -> Tensor:
        nonlocal x
        t = next(times)
        found: Tensor = scheduler.step(guided_noise(model, x, t, labels), t, x).prev_sample
        x = found
        return x

    return step


def guided_noise(model: Model, x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
    """The noise that diffusers' pipeline predicts: all channels guided, variances dropped."""
    output = model(torch.cat([x, x]), t.expand(2 * len(x)), labels)[:, : x.shape[1]]
    better, worse = output.chunk(2)
    return worse + SCALE * (better - worse)
