"""The branches of a live network, seen from outside: the modules that a modulated stream enters and leaves.

A family's `branches` say which; `trace` watches them in one forward pass by hooks that are gone afterwards, and no
network is changed. With what its gate lets through, each branch has an energy; what moves when the rows of a site are
moved says whether these do what the layout says.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from math import isfinite
from typing import Any

import torch
from torch import Tensor, nn

from adaln.conditioning import (
    VALUE_FUNCTIONS,
    Branch,
    Family,
    Role,
    Site,
    Stream,
    UnknownLayout,
    find_layout,
)

_NUDGE = 0.5
"""Added to all rows of a site: far above rounding, of the size of a trained modulation."""


@dataclass(frozen=True, slots=True)
class Call:
    """What went into a module and what came out."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    output: Any

    def stream(self, stream: Stream) -> Tensor:
        """The tokens of one stream that went in."""
        of_context = stream == "context" and "encoder_hidden_states" in self.kwargs
        named = "encoder_hidden_states" if of_context else "hidden_states"
        tokens: Tensor = self.kwargs[named] if of_context or not self.args else self.args[0]
        return tokens

    def is_identity(self) -> bool:
        """Whether all that came out is among what went in."""
        entered = [value for value in (*self.args, *self.kwargs.values()) if isinstance(value, Tensor)]
        return all(any(torch.equal(output, value) for value in entered) for output in self.outputs())

    def outputs(self) -> tuple[Tensor, ...]:
        """All that came out."""
        outputs = self.output if isinstance(self.output, tuple) else (self.output,)
        return tuple(output for output in outputs if isinstance(output, Tensor))


@torch.no_grad()
def trace(model: nn.Module, modules: Iterable[str], inputs: Mapping[str, Any]) -> dict[str, Call]:
    """What each of these modules saw and gave, in its last call, in one forward pass in evaluation mode."""
    calls: dict[str, Call] = {}

    def keep(name: str, module: nn.Module, *call: Any) -> None:
        calls[name] = Call(*call)

    training = [module for module in model.modules() if module.training]
    with ExitStack() as stack:
        for name in dict.fromkeys(modules):
            module = model.get_submodule(name)
            stack.enter_context(module.register_forward_hook(partial(keep, name), with_kwargs=True))
        for module in training:
            stack.callback(setattr, module, "training", True)
        model.eval()(**inputs)
    return calls


class Live:
    """A network with its sites and the modules in which their branches run.

    Raises `UnknownLayout` for a network without known sites.
    """

    def __init__(self, model: nn.Module, family: str | Family | None = None) -> None:
        self.model = model
        self.tensors = dict(model.named_parameters())
        layout = find_layout(model, family)
        self.sites = list(layout.sites)
        if not self.sites:
            raise UnknownLayout(f"no modulation layer of a known layout in {type(model).__name__}")
        self.branches = layout.family.branches
        self.head = next((name.rpartition(".")[0] for name in layout.head), None)
        self.prefix = layout.prefix
        of_blocks = [site for site in self.sites if site.branch != "final"]
        self.tables = [site for site in of_blocks if site.weight is None]
        self.shared = {(s.branch, s.role): s for s in of_blocks if self.tables and s.weight}
        self.gates = [s for s in self.sites if s.role is Role.GATE and s not in self.shared.values()]
        """Of a shared modulation the gates of the tables, one per block."""

    def block_and_branch(self, site: Site) -> tuple[str, Branch]:
        """The block and the branch in which a site shows; a shared modulation shows in the first block."""
        block = self.tables[0].block if site in self.shared.values() else site.block
        return self.prefix + block, self.branches[site.branch]

    def modules(self, sites: Iterable[Site]) -> list[str]:
        """All modules where these sites show."""
        branches = [self.block_and_branch(site) for site in sites]
        inner = [f"{block}.{name}" for block, b in branches for name in (b.enters, b.leaves, b.residual) if name]
        return [block for block, _ in branches] + inner

    def modulations_of_gates(self) -> list[str]:
        """All modules whose output `modulation` reads for a gate."""
        return [module_of(site) for site in (*self.gates, *self.shared.values()) if site.weight]

    def modulation(self, site: Site, calls: Mapping[str, Call]) -> Tensor:
        """What the rows of a site give for each sample: (samples, D), a table's sum with the shared modulation's."""
        if site.weight:
            given: Tensor = calls[module_of(site)].output[..., site.rows]
        else:
            shared = self.shared[site.branch, site.role]
            given = self.tensors[site.bias or ""][site.rows] + calls[module_of(shared)].output[..., shared.rows]
        return given.detach().reshape(-1, given.shape[-1])


def are_identities(model: nn.Module, inputs: Mapping[str, Any], blocks: Sequence[str]) -> bool | None:
    """Whether each of these blocks gives back what entered it, bit for bit; None where no module is called so."""
    modules = dict(model.named_modules())
    calls = trace(model, [block for block in blocks if block in modules], inputs)
    return all(call.is_identity() for call in calls.values()) if calls else None


def module_of(site: Site) -> str:
    """Name of the module that holds the matrix of a site."""
    return (site.weight or "").removesuffix(".weight")


def entered(branch: Branch, block: str, calls: Mapping[str, Call]) -> Tensor:
    """The modulated stream that enters a branch."""
    return _of_stream(branch, calls[f"{block}.{branch.enters}"].stream(branch.stream), calls[block])


def left(branch: Branch, block: str, calls: Mapping[str, Call]) -> Tensor:
    """What leaves a branch, before its gate, channels last."""
    outputs = calls[f"{block}.{branch.leaves or branch.enters}"].outputs()
    tokens = _of_stream(branch, outputs[branch.stream == "context"] if len(outputs) > 1 else outputs[0], calls[block])
    return tokens.flatten(2).mT if branch.channels_first else tokens


def _of_stream(branch: Branch, tokens: Tensor, block: Call) -> Tensor:
    if not branch.both_streams:
        return tokens
    num_context = block.stream("context").shape[1]
    return tokens[:, :num_context] if branch.stream == "context" else tokens[:, num_context:]


@dataclass(frozen=True, slots=True)
class BranchEnergy:
    """How much of a branch reaches the residual stream."""

    block: str
    depth: int
    branch: str
    ratio: float | None
    """|gate * F(...)| / |x|, Euclidean over a batch, x the stream that enters the block; None if not finite."""
    open_ratio: float | None
    """|F(...)| / |x|: what a gate of 1 would let through."""


@dataclass(frozen=True, slots=True, eq=False)
class Passage:
    """One branch at its gate, in one forward pass: x <- x + gate * F."""

    site: Site
    x: Tensor
    """The stream that enters the block."""
    branch: Tensor
    """F(...), channels last."""
    gate: Tensor
    """(samples, 1, ..., D)."""

    def energy(self) -> BranchEnergy:
        """The ratios of norms."""
        norms = (self.gate * self.branch).norm(), self.branch.norm()
        ratios = (float(norm / self.x.norm()) for norm in norms)
        finite = (ratio if isfinite(ratio) else None for ratio in ratios)
        return BranchEnergy(self.site.block, self.site.depth, self.site.branch, *finite)


def branch_energies(
    model: nn.Module, inputs: Mapping[str, Any], family: str | Family | None = None
) -> list[BranchEnergy]:
    """The energy of every gated branch in forward order, from one forward pass on `inputs`.

    Exactly 0 wherever a gate starts at zero. Empty for a network without gates (HunyuanDiT).
    """
    return [passage.energy() for passage in passages(model, inputs, family)]


def passages(model: nn.Module, inputs: Mapping[str, Any], family: str | Family | None = None) -> list[Passage]:
    """Every gated branch at its gate, in forward order. The branches of a block add up to what the block adds to x."""
    live = Live(model, family)
    calls = trace(model, [*live.modulations_of_gates(), *live.modules(live.gates)], inputs)
    passed = []
    for site in live.gates:
        block, branch = live.block_and_branch(site)
        output, gate = left(branch, block, calls), live.modulation(site, calls)
        gate = gate.reshape(gate.shape[0], *[1] * (output.ndim - 2), gate.shape[1])
        x = calls[f"{block}.{branch.residual}" if branch.residual else block].stream(branch.stream)
        passed.append(Passage(site, x, output, VALUE_FUNCTIONS[site.function](gate)))
    return passed


def observe_roles(
    model: nn.Module, inputs: Mapping[str, Any], sites: Sequence[Site], family: str | Family | None = None
) -> list[tuple[Site, Role | None]]:
    """What the rows of each of these sites do, by one forward pass with them moved and one without; None: nothing seen.

    Shift: all that enters the branch moves by the same amount. Scale: it moves otherwise, by that much of norm(x).
    Gate: what enters the branch stays, what leaves the block moves. The model is as it was afterwards.
    A final layer is left out where no last projection is known by its name.
    """
    live = Live(model, family)
    chosen = [site for site in sites if live.head or site.branch != "final"]
    watched = [*([live.head] if live.head else []), *live.modules(site for site in chosen if site.branch != "final")]
    before = trace(model, watched, inputs)
    roles = []
    for site in chosen:
        with _nudged(live, site):
            after = trace(model, watched, inputs)
        roles.append((site, _effect(live, site, before, after)))
    return roles


def _effect(live: Live, site: Site, before: Mapping[str, Call], after: Mapping[str, Call]) -> Role | None:
    if site.branch == "final":
        head = live.head or ""
        moved, block_moved = after[head].stream("image") - before[head].stream("image"), False
    else:
        block, branch = live.block_and_branch(site)
        moved = entered(branch, block, after) - entered(branch, block, before)
        outputs = zip(before[block].outputs(), after[block].outputs(), strict=True)
        block_moved = any(not torch.equal(a, b) for a, b in outputs)
    if moved.any():
        return Role.SHIFT if bool(((moved - _NUDGE).abs() < 0.01 * _NUDGE).all()) else Role.SCALE
    return Role.GATE if block_moved else None


@contextmanager
def _nudged(live: Live, site: Site) -> Iterator[None]:
    """Add a constant to what the site's rows give, for as long as the context lasts."""

    def nudge(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        output = output.clone()
        output[..., site.rows] += _NUDGE
        return output

    if site.weight:
        with live.model.get_submodule(module_of(site)).register_forward_hook(nudge):
            yield
        return
    rows = live.tensors[site.bias or ""].detach()[site.rows]
    kept = rows.clone()
    try:
        rows += _NUDGE
        yield
    finally:
        rows.copy_(kept)
