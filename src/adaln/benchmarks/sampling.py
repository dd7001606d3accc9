"""A step of guided sampling of ours and of the peer, beside the products that the machine could have done."""

# mypy: disable-error-code="no-untyped-call"

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from adaln.benchmarks.machine import in_turns, machine, products, torch_device
from adaln.benchmarks.options import STEPS, SampleOptions
from adaln.benchmarks.peer import LATENTS, Step, busy_model, called_like_ours, compared, made, peer_of
from adaln.execution import Precision, check_precision, matrix_products, num_threads
from adaln.models import MODELS, ModelConfig, flops
from adaln.processes import PROCESSES, Guidance, SamplerConfig, guided, solve
from adaln.rng import generator
from adaln.sampling.config import SampleExecution
from adaln.sampling.networks import computing
from adaln.sampling.sampler import seeded_draw

SCALE = 1.5


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
    config, rng = MODELS[options.model], generator("benchmark sample", options.batch_size)
    noise = torch.randn(options.batch_size, LATENTS.channels, LATENTS.height, LATENTS.width, generator=rng).to(device)
    labels = torch.randint(LATENTS.num_classes, (options.batch_size,), generator=rng).to(device)
    multiplied = list(products(device, precision))
    model = busy_model(config, device).eval().requires_grad_(False)
    execution = SampleExecution(options.compile != "none", options.cuda_graph)
    with matrix_products(precision):
        sides, left_out = made(
            {
                "diffusers": lambda: peer_steps(model, config, noise, labels, precision, options.compile == "both"),
                "ours": lambda: our_steps(model, noise, labels, precision, execution),
            }
        )
        works: dict[str, Step] = {**sides, **{product.name: product.work for product in multiplied}}
        turns = in_turns(works, options.repeats)
    found = compared(2 * flops(config, LATENTS) * options.batch_size, turns, multiplied)
    seconds = found["median"]["seconds"]
    return found | {
        "left_out": left_out,
        "images_per_second": {side: options.batch_size / STEPS / seconds[side] for side in seconds},
    }


def our_steps(
    model: nn.Module, noise: Tensor, labels: Tensor, precision: Precision, execution: SampleExecution
) -> Step:
    """What `adaln sample` does in a step: DDPM with learned variances, both guided halves in one forward."""
    network = computing(model, precision, execution)
    draw = seeded_draw(0, range(len(noise)), noise.shape[1:], noise.device)
    denoiser = guided(network, labels, LATENTS.num_classes, Guidance(SCALE))
    process = PROCESSES["ddpm"].build()
    states = solve(process, denoiser, noise, draw, SamplerConfig(steps=STEPS))
    return lambda: next(states)


def peer_steps(
    ours: nn.Module, config: ModelConfig, noise: Tensor, labels: Tensor, precision: Precision, compiled: bool
) -> Callable[[], Tensor]:
    """What diffusers' DiT pipeline does in a step: its DDIM scheduler, both guided halves in one forward.

    Its weights are those of ours, before these are made ready to compute.
    """
    from diffusers import DDIMScheduler

    peer = peer_of(ours, config, LATENTS).eval().requires_grad_(False)
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    model = called_like_ours(nn.Module.to(peer, dtype))
    if compiled:
        peer.compile()
    scheduler: Any = DDIMScheduler(beta_schedule="linear", beta_start=1e-4, beta_end=0.02, clip_sample=False)
    scheduler.set_timesteps(STEPS, device=noise.device)
    times, x = iter(scheduler.timesteps), noise.to(dtype)
    both = torch.cat([labels, torch.full_like(labels, LATENTS.num_classes)])

    def step() -> Tensor:
        nonlocal x
        t = next(times)
        output = model(torch.cat([x, x]), t.expand(2 * len(x)), both)[:, : x.shape[1]]  # without the variances
        better, worse = output.chunk(2)
        following: Tensor = scheduler.step(worse + SCALE * (better - worse), t, x).prev_sample
        x = following
        return x

    return step
