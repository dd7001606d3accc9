"""When each part of a network may move: measure the update order of a model, and replay one as a gradient mask.

A part is the rows of one site in one tensor, or a whole tensor that hosts no site. Its order is the first iteration
(0-based here; the paper's Table 1 counts from 1) at which its gradient is not exactly zero.

Two facts to keep in mind. Adam counts its steps per tensor, so rows that open late take a first step of another size
than rows of a fresh tensor would. Weight decay moves rows whose gradient is zero, so holding refuses weight decay.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import inf

import torch
from torch import Tensor, nn

from adaln.conditioning.initialisation import initialise
from adaln.conditioning.layout import find_sites
from adaln.conditioning.schemes import SCHEMES, Scheme
from adaln.conditioning.schemes import scheme as scheme_of
from adaln.parallel import own_part
from adaln.rng import generator
from adaln.types import Hook, as_rows


@dataclass(frozen=True, slots=True, order=True)
class OrderPart:
    """Rows `start` to `stop` of one tensor."""

    tensor: str
    start: int
    stop: int

    def of(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """The rows themselves, as a view, as far as this process holds them; a scalar tensor is its own only row."""
        return own_part(tensors[self.tensor], self.start, self.stop)


Order = dict[OrderPart, int | None]
"""First iteration at which each part moves; None: not within what was measured, or never."""
Loss = Callable[[nn.Module, int], Tensor]
"""(model, iteration) -> scalar loss of that iteration's batch."""
PROBE_ITERATIONS = 3
"""adaLN-Zero on a DiT has everything moving from the third (Table 1)."""
MakeOptimizer = Callable[[list[nn.Parameter]], torch.optim.Optimizer]


def order_parts(tensors: Mapping[str, Tensor]) -> list[OrderPart]:
    """All parts; together they cover every row of every tensor exactly once."""
    cuts: dict[str, set[int]] = {name: {0, as_rows(tensor).shape[0]} for name, tensor in tensors.items()}
    for site in find_sites(tensors):
        for name in site.tensors():
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
) -> Order:
    """The update order of `scheme` on this model: a probe of a few iterations on a copy, the model stays untouched.

    What a run under the scheme would hold is held in the probe as well. Source: Table 1, A.3.
    """
    probe = copy.deepcopy(model)
    initialise(probe, scheme, generator("order", seed))
    named = {name: p for name, p in probe.named_parameters() if p.requires_grad}
    order: Order = dict.fromkeys(order_parts(named))
    hook, step = holding(order_to_hold(model, scheme, loss, seed)), optimizer(list(named.values()))
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


def held_by(tensors: Mapping[str, Tensor], scheme: Scheme) -> Order:
    """The parts that the scheme's own rows keep closed beyond the first step."""
    return {
        OrderPart(name, site.rows.start, site.rows.stop): scheme.at(site).opens
        for site in find_sites(tensors)
        if scheme.at(site).opens != 0
        for name in site.tensors()
    }


def num_held(tensors: Mapping[str, Tensor], scheme: Scheme) -> int:
    """Number of parameters that the scheme holds for ever: what it takes from a parameter count (adaLN's gates)."""
    held = (part for part, opens in held_by(tensors, scheme).items() if opens is None)
    return sum(as_rows(tensors[part.tensor])[part.start : part.stop].numel() for part in held)


def order_to_hold(model: nn.Module, scheme: Scheme, loss: Loss, seed: int = 0) -> Order:
    """All that a run under `scheme` must hold: its own closed rows, and the measured order of the scheme it replays."""
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    replayed: Order = {}
    if scheme.order_of:
        measured = measure_order(model, SCHEMES[scheme.order_of], loss, num_iterations=PROBE_ITERATIONS, seed=seed)
        # what did not move within the probe is unknown beyond it, so it is held no longer than the probe lasted
        opened = {part: PROBE_ITERATIONS if opens is None else opens for part, opens in measured.items()}
        replayed = {part: opens for part, opens in opened.items() if opens}
    return {**replayed, **held_by(named, scheme)}


def hold(model: nn.Module, scheme: str | Scheme, loss: Loss, seed: int = 0) -> Hook:
    """For a training loop of one's own: a hook that keeps what `scheme` holds where it started (adaln, adaln-mix).

    Call it as `hook(step, model)` after the backward pass and before the optimiser, which must have no weight decay.
    `loss(model, iteration)` is the scalar loss of a batch: where the scheme replays the update order of another one,
    that is measured on a copy of the model, in three iterations. The model itself stays as it is.

    >>> import torch, adaln
    >>> from adaln.types import DataSpec
    >>> net = adaln.preset("digits").model.network(DataSpec(channels=1, height=8, width=8, num_classes=10))
    >>> sites = adaln.initialise(net, "adaln")
    >>> hook = adaln.hold(net, "adaln", lambda model, iteration: model(x, t, y).square().mean())
    >>> x, t, y = torch.randn(2, 1, 8, 8), torch.tensor([1.0, 500.0]), torch.tensor([3, 4])
    >>> net(x, t, y).sum().backward()
    >>> hook(0, net)
    >>> gate = next(site for site in sites if site.role.name == "GATE")
    >>> net.get_parameter(gate.bias).grad[gate.rows].any()
    tensor(False)
    """
    return holding(order_to_hold(model, scheme_of(scheme), loss, seed))


def holding(order: Order) -> Hook:
    """A hook that zeroes the gradient of every part until the step at which it opens.

    With Adam or SGD and no weight decay, held parts stay bit-identical to their start.
    """
    closed_until = {part: inf if opens is None else opens for part, opens in order.items()}
    last = max(closed_until.values(), default=0)

    def mask(step: int, model: nn.Module) -> None:
        if step >= last:
            return
        gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        for part, opens in closed_until.items():
            if step < opens and part.tensor in gradients:
                part.of(gradients).zero_()

    return mask


def refuse_weight_decay(order: Order, weight_decay: float) -> None:
    """`ValueError` where weight decay would move what the order holds."""
    if weight_decay and any(opens != 0 for opens in order.values()):
        raise ValueError(
            f"weight decay {weight_decay:g} moves rows whose gradient is zero, so the scheme's held rows would not stay"
            " where they are; expected weight decay 0 with a scheme that holds rows (adaln, adaln-mix)"
        )
