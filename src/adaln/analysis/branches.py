"""What gates and scales of a network do to the tokens of one batch, branch by branch, while anyone trains it."""

# mypy: disallow-untyped-calls=False
from collections.abc import Mapping
from dataclasses import dataclass
from inspect import Parameter, signature
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from adaln.analysis.live import branch_energies, role_effects
from adaln.conditioning import Family, Role, find_layout


@dataclass(frozen=True, slots=True)
class BranchRecord:
    """One branch of one block at one step, on one batch."""

    block: str
    branch: str
    energy: float | None
    """|gate * F(...)| / |x|, x the stream that enters the block; None without a gate, or where it is not finite."""
    open_energy: float | None
    """|F(...)| / |x|: what a gate of 1 would let through."""
    largest_scale: float | None
    """max |1 + scale| over samples and channels, which multiplies the tokens; None without a scale."""


def inner_network(model: nn.Module) -> nn.Module:
    """What `torch.compile` and DDP wrap."""
    while isinstance(inner := getattr(model, "_orig_mod", None) or wrapped_by_ddp(model), nn.Module):
        model = inner
    return model


def wrapped_by_ddp(model: nn.Module) -> object:
    """None for another module."""
    return model.module if isinstance(model, DataParallel | DistributedDataParallel) else None


def named_inputs(model: nn.Module, arguments: tuple[Any, ...], named: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of a network's `forward` by its parameters' names; `TypeError` for what it does not take."""
    known = signature(model.forward)
    bound = dict(known.bind(*arguments, **named).arguments)
    for name, parameter in known.parameters.items():
        if parameter.kind is Parameter.VAR_KEYWORD:
            bound |= bound.pop(name, {})
    return bound


@torch.no_grad()
def branch_records(
    model: nn.Module, inputs: Mapping[str, Any], family: str | Family | None = None
) -> list[BranchRecord]:
    """Of every branch that has a gate or a scale, in forward order: a few forward passes, in evaluation mode."""
    layout = find_layout(model, family)
    energies = {(one.block, one.branch): one for one in branch_energies(model, inputs, layout)}
    scales = {
        (site.block, site.branch): float(value.abs().max())
        for site, value in role_effects(model, inputs, layout, Role.SCALE)
    }
    return [
        BranchRecord(*key, energy.ratio if energy else None, energy.open_ratio if energy else None, scales.get(key))
        for key in dict.fromkeys([*energies, *scales])
        for energy in [energies.get(key)]
    ]
