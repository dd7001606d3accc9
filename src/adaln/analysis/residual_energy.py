"""How much of each branch its gate lets through to the residual stream, measured on a live network."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

from torch import Tensor, nn

from adaln.analysis.branches import Live, left, module_of, residual, trace
from adaln.conditioning import Role, Site


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


def branch_energies(model: nn.Module, inputs: Mapping[str, Any], family: str | None = None) -> list[BranchEnergy]:
    """The energy of every gated branch in forward order, from one forward pass on `inputs`.

    Exactly 0 wherever a gate starts at zero. Empty for a network without gates (HunyuanDiT).
    """
    return [passage.energy() for passage in passages(model, inputs, family)]


def passages(model: nn.Module, inputs: Mapping[str, Any], family: str | None = None) -> list[Passage]:
    """Every gated branch at its gate, in forward order. The branches of a block add up to what the block adds to x."""
    live = Live(model, inputs, family)
    gated = [site for site in live.sites if site.role is Role.GATE and site not in live.shared.values()]
    modulations = [module_of(site) for site in (*gated, *live.shared.values()) if site.weight]
    calls = trace(model, [*modulations, *live.modules(gated)], inputs)
    found = []
    for site in gated:
        block, branch = live.place(site)
        output, gate = left(branch, block, calls), live.modulation(site, calls)
        gate = gate.reshape(gate.shape[0], *[1] * (output.ndim - 2), gate.shape[1])
        found.append(Passage(site, residual(branch, block, calls), output, gate.tanh() if branch.squashed else gate))
    return found
