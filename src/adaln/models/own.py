"""Anyone's network, made by its factory: drawn from a seed, looked at, and tried before it is trained."""

from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from adaln.models.config import Counts
from adaln.models.own_config import OwnConfig
from adaln.rng import generator
from adaln.types import DataSpec, ProcessConfig

TRIED = 2
"""Samples of a trial: one with a label and one without a class."""


class Look(NamedTuple):
    """What is known of a network without its numbers."""

    skeleton: nn.Module
    counts: Counts


def made(config: OwnConfig, spec: DataSpec, rng: torch.Generator) -> nn.Module:
    """A fresh network on the device of `rng`; what it draws from torch's own generator follows from the seed of `rng`.

    Raises `ValueError` in one line for whatever the factory raises, or where it makes no module.
    """
    factory = config.code()
    with torch.device("cpu"), torch.random.fork_rng(devices=[]):
        torch.manual_seed(rng.initial_seed())
        try:
            model = factory(spec)
        except (Exception, SystemExit) as error:
            raise _raised(config, f"for {spec}", error) from error
    if not isinstance(model, nn.Module):
        raise ValueError(f"{config.factory!r} made a {type(model).__name__}; expected an nn.Module")
    if name := next((name for name, tensor in model.named_parameters() if tensor.is_meta), ""):
        raise ValueError(f"{config.factory!r} made {name!r} on the meta device; expected weights that are there")
    if not hasattr(model, "spec"):
        model.spec = spec  # type: ignore[assignment]  # by it the audit draws inputs
    return model.to(rng.device)


@lru_cache(maxsize=16)
def looked_at(config: OwnConfig, spec: DataSpec) -> Look:
    """The network's names and shapes, and what it holds and computes, counted on a forward pass."""
    model = made(config, spec, generator("init", 0))
    with torch.device("cpu"), torch.no_grad():
        times = torch.full((TRIED,), 0.5), torch.zeros(TRIED, dtype=torch.long)  # of a flow, of a diffusion
        operations = next((flops for t in times if (flops := _operations(model, config, spec, t))), 0)
    num_parameters = sum(tensor.numel() for tensor in model.parameters() if tensor.requires_grad)
    return Look(model.to("meta"), Counts(num_parameters, operations // TRIED))


@lru_cache(maxsize=16)
def try_out(config: OwnConfig, spec: DataSpec, process: ProcessConfig) -> None:
    """One loss and its gradient on noise; `ValueError` in one line where the network does not fit data or process."""
    rng, steps = generator("own network", "trial"), process.build()
    model = made(config, spec, generator("init", 0))
    x = torch.randn(TRIED, spec.channels, spec.height, spec.width, generator=rng)
    expected = (TRIED, config.outputs_per_channel * spec.channels, spec.height, spec.width)

    def checked(x: Tensor, t: Tensor, y: Tensor | None) -> Tensor:
        output: Any = model(x, t, y)
        if not isinstance(output, Tensor) or output.shape != expected:
            got = tuple(output.shape) if isinstance(output, Tensor) else f"a {type(output).__name__}"
            raise ValueError(f"gave {got}; expected a tensor {expected}")
        return output

    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    with torch.random.fork_rng(devices=[]):
        try:
            steps.loss(checked, x, _labels(config, spec), *steps.draw(x.shape, rng)).sum().backward()  # type: ignore[no-untyped-call]
        except (Exception, SystemExit) as error:
            raise _raised(config, _given(config, spec), error) from error
    if moved := [name for name, buffer in model.named_buffers() if not torch.equal(buffer, before[name])]:
        raise ValueError(
            f"the network of {config.factory!r} changes its buffer {moved[0]!r} as it computes, of which no average is"
            " kept; expected a network whose state is its parameters (no BatchNorm)"
        )


def _labels(config: OwnConfig, spec: DataSpec) -> Tensor | None:
    """A class and, where labels are dropped, the null class; None for data without classes."""
    last = spec.num_classes - (config.class_dropout_prob == 0)
    return torch.tensor([0, last]) if spec.num_classes else None


def _operations(model: nn.Module, config: OwnConfig, spec: DataSpec, t: Tensor) -> int:
    """Of a forward pass of the trial's samples; 0 where it does not take such times."""
    x = torch.zeros(TRIED, spec.channels, spec.height, spec.width)
    with torch.random.fork_rng(devices=[]), FlopCounterMode(display=False) as counter:
        try:
            model(x, t, _labels(config, spec))
        except (Exception, SystemExit):
            return 0
    return int(counter.get_total_flops())


def _given(config: OwnConfig, spec: DataSpec) -> str:
    null = f", {spec.num_classes} for the null class (--model.class-dropout-prob 0: none)"
    labels = f"labels up to {spec.num_classes - 1}{null * (config.class_dropout_prob > 0)}" if spec.num_classes else ""
    return f"given x of C, H, W = {spec.channels, spec.height, spec.width} and {labels or 'y = None'}"


def _raised(config: OwnConfig, when: str, error: BaseException) -> ValueError:
    return ValueError(f"{config.factory!r}, {when}: {' '.join(f'{type(error).__name__}: {error}'.split())}")
