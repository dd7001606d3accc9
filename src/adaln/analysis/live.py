"""A live network beside its layout: what its rows do, and how much of each branch its gates let through."""

# mypy: disallow-untyped-calls=False
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from adaln.analysis.operations import Counted, run, tensors_of
from adaln.analysis.probe import Seen, of_one_role, probe
from adaln.conditioning import Layout, Role, Site, effect, find_layout, static_tensors
from adaln.tensor_files import unwrapped
from adaln.types import as_rows


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


@dataclass(frozen=True, slots=True)
class Observed:
    """What forward passes on one batch have shown."""

    energies: tuple[BranchEnergy, ...]
    """Of every gated branch, in forward order."""
    roles: tuple[tuple[Site, frozenset[tuple[Role, str]]], ...]
    """What the rows of each site do, and what their value goes through; nothing where they reach no tokens."""
    strangers: tuple[str, ...]
    """Tensors that shift, scale or gate tokens and are in no site."""
    identities: bool | None
    """Whether every block gave back what entered it, bit for bit; None where no block is a module."""


def observe(model: nn.Module, inputs: Mapping[str, Any], layout: Layout | None = None) -> Observed:
    """Run a network a few times on `inputs` and see what its rows do; it is as it was afterwards.

    Raises `ValueError` naming a layer whose values reach the tokens through a function that is not known.
    """
    layout = layout or find_layout(model)
    at: dict[tuple[str, int, int], list[Seen]] = defaultdict(list)
    seen = probe(model, inputs, static=static_tensors(layout.sites))
    for one in seen:
        at[one.tensor, one.rows.start, one.rows.stop].append(one)
    seen_of = [(site, at[site.tensors()[0], site.rows.start, site.rows.stop]) for site in layout.sites]
    roles = tuple((site, frozenset((one.role, one.function) for one in those)) for site, those in seen_of)
    known = {name for site in layout.sites for name in site.tensors()}
    strangers = tuple(dict.fromkeys(one.tensor for one in of_one_role(seen) if one.tensor not in known))
    return Observed(tuple(_energies(layout, seen_of)), roles, strangers, _are_identities(model, inputs, layout))


def branch_energies(
    model: nn.Module, inputs: Mapping[str, Any], layout: Layout | None = None
) -> tuple[BranchEnergy, ...]:
    """The energy of every gated branch in forward order; exactly 0 wherever a gate starts at zero."""
    return observe(model, inputs, layout).energies


def _energies(layout: Layout, seen_of: Sequence[tuple[Site, Sequence[Seen]]]) -> list[BranchEnergy]:
    depths = {block: depth for depth, block in enumerate(layout.blocks)}
    energies = []
    for site, those in seen_of:
        if _is_in_blocks(site, layout):
            continue
        for one in those:
            if one.role is Role.GATE:
                block, depth = site.block, site.depth
                if not site.is_of_one_block:  # all blocks share it, each has its own branch
                    block = next(iter(unwrapped([one.block]))).removeprefix(layout.prefix)
                    depth = depths.get(block, depth)
                energies.append(BranchEnergy(block, depth, site.branch, one.ratio, one.open_ratio))
    return sorted(energies, key=lambda energy: energy.depth)


def modules_of(model: nn.Module, layout: Layout) -> dict[str, str]:
    """The names of the blocks' modules in the model by their names in the layout; none for what is no module."""
    outermost: dict[str, str] = {}
    for name, _ in model.named_modules():  # a block, then what it wraps
        clean = next(iter(unwrapped([f"{name}.weight"])))
        outermost.setdefault(clean.removesuffix(".weight"), name)
    names = {block: f"{layout.prefix}{block}" for block in layout.blocks}
    return {block: outermost[name] for block, name in names.items() if name in outermost}


class _Identities(Counted):
    """Whether modules give back what entered them."""

    def __init__(self, names: Mapping[str, str]) -> None:
        super().__init__()
        self.names = set(names.values())
        self.entered: dict[str, list[Tensor]] = {}
        self.kept: list[bool] = []

    def enter(self, name: str, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        super().enter(name, module, args, kwargs)
        if name in self.names:
            self.entered[name] = [tensor.clone() for tensor in tensors_of((args, dict(kwargs)))]

    def leave(self, name: str, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        super().leave(name, module, args, output)
        if name in self.names:
            given = self.entered.pop(name)
            self.kept += [any(_equal(one, other) for other in given) for one in tensors_of(output)]


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.equal(a, b.to(a.dtype))


def _are_identities(model: nn.Module, inputs: Mapping[str, Any], layout: Layout) -> bool | None:
    watched = _Identities(modules_of(model, layout))
    run(model, inputs, watched)
    return all(watched.kept) if watched.kept else None


class _Outputs(Counted):
    """What some modules give."""

    def __init__(self, names: Collection[str]) -> None:
        super().__init__()
        self.outputs: dict[str, Tensor] = dict.fromkeys(names, torch.empty(0))

    def leave(self, name: str, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        super().leave(name, module, args, output)
        if name in self.outputs:
            self.outputs[name] = output


def role_effects(
    model: nn.Module, inputs: Mapping[str, Any], layout: Layout, role: Role = Role.GATE
) -> list[tuple[Site, Tensor]]:
    """What every gate (or 1 + scale) is for each sample, (samples, D): its rows' sum with those of the shared matrices,
    after tanh or whatever their value goes through."""
    sites = [site for site in layout.sites if site.role is role]
    watched = _Outputs({module_of(site) for site in sites if site.weight})
    run(model, inputs, watched)
    parameters = dict(model.named_parameters())

    def value(site: Site) -> Tensor:
        if site.weight:
            return watched.outputs[module_of(site)][..., site.rows].flatten(0, -2)
        return as_rows(parameters[site.tensors()[0]]).detach()[site.rows].reshape(1, -1)

    def acts_as(site: Site) -> Tensor:
        shared = layout.shared.get((site.branch, site.role), ()) if site.is_of_one_block else ()
        return effect(role, site.function)(sum(map(value, shared), value(site)))

    return [(site, acts_as(site)) for site in sites if not _is_in_blocks(site, layout)]


def module_of(site: Site) -> str:
    """Name of the module that holds the matrix of a site."""
    return (site.weight or "").removesuffix(".weight")


def _is_in_blocks(site: Site, layout: Layout) -> bool:
    """Whether the rows are those of a shared matrix that is added to rows of each block's own, which then say it."""
    if not site.weight or site.is_of_one_block:
        return False
    own = {other.branch for other in layout.sites if other.is_of_one_block}
    return not own.isdisjoint(site.branch.split("+"))
