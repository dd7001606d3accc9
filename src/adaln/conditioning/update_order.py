"""When each part of a network moves: measure the update order of a model.

A part's order is the first iteration (0-based here; the paper's Table 1 counts from 1) at which its gradient is not
exactly zero.
"""

import copy
from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise

import torch
from torch import Tensor, nn

from adaln.conditioning.family import Family
from adaln.conditioning.held_rows import Loss, Order, OrderPart, held_by, holding
from adaln.conditioning.initialisation import initialise
from adaln.conditioning.layout import find_sites
from adaln.conditioning.scheme_row import Scheme
from adaln.conditioning.schemes import SCHEMES
from adaln.conditioning.sites import Site
from adaln.rng import generator
from adaln.types import as_rows

PROBE_ITERATIONS = 3
"""adaLN-Zero on a DiT has everything moving from the third (Table 1)."""
MakeOptimizer = Callable[[list[nn.Parameter]], torch.optim.Optimizer]


def order_parts(tensors: Mapping[str, Tensor], sites: Iterable[Site] | None = None) -> list[OrderPart]:
    """All parts; together they cover every row of every tensor exactly once. `sites`: where they are known."""
    cuts: dict[str, set[int]] = {name: {0, as_rows(tensor).shape[0]} for name, tensor in tensors.items()}
    for site in find_sites(tensors) if sites is None else sites:
        for name in cuts.keys() & site.tensors():
            cuts[name] |= {site.rows.start, site.rows.stop}
    return [OrderPart(name, start, stop) for name in cuts for start, stop in pairwise(sorted(cuts[name]))]


def sgd(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """Plain gradient descent, the optimiser of the paper's derivation."""
    return torch.optim.SGD(parameters, lr=1e-2)


def adamw(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """AdamW as the paper trains: lr 1e-4, no weight decay."""
    return torch.optim.AdamW(parameters, lr=1e-4, weight_decay=0.0)


def measure_order(
    model: nn.Module,
    scheme: Scheme,
    loss: Loss,
    *,
    num_iterations: int = PROBE_ITERATIONS,
    optimizer: MakeOptimizer = adamw,
    seed: int = 0,
    family: str | Family | None = None,
) -> Order:
    """The update order of `scheme` on this model: a probe of a few iterations on a copy, the model stays untouched.

    What a run under the scheme would hold is held in the probe as well. Source: Table 1, A.3.
    """
    probe = copy.deepcopy(model)
    sites = initialise(probe, scheme, generator("order", seed), family=family)
    named = {name: p for name, p in probe.named_parameters() if p.requires_grad}
    order: Order = dict.fromkeys(order_parts(named, sites))
    hook, step = holding(order_to_hold(model, scheme, loss, seed, family)), optimizer(list(named.values()))
    for iteration in range(num_iterations):
        step.zero_grad(set_to_none=True)
        loss(probe, iteration).backward()  # type: ignore[no-untyped-call]
        hook(iteration, probe)
        gradients = {name: p.grad for name, p in named.items() if p.grad is not None}
        for part, opened in order.items():
            if opened is None and part.tensor in gradients and bool(part.of(gradients).any()):
                order[part] = iteration
        step.step()
    return order


def order_to_hold(
    model: nn.Module, scheme: Scheme, loss: Loss, seed: int = 0, family: str | Family | None = None
) -> Order:
    """All that a run under `scheme` must hold: its own closed rows, and the measured order of the scheme it replays."""
    replayed: Order = {}
    if scheme.order_of:
        measured = measure_order(model, SCHEMES[scheme.order_of], loss, seed=seed, family=family)
        # what did not move within the probe is unknown beyond it, so it is held no longer than the probe lasted
        opened = {part: PROBE_ITERATIONS if opens is None else opens for part, opens in measured.items()}
        replayed = {part: opens for part, opens in opened.items() if opens}
    return {**replayed, **held_by(find_sites(model, family), scheme)}
