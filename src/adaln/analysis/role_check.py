"""Whether rows do what the layout says: move them, and watch what moves with them."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from adaln.analysis.branches import Call, Live, entered, module_of, trace
from adaln.conditioning import Role, Site

_NUDGE = 0.5
"""Added to all rows of a site: far above rounding, of the size of a trained modulation."""


@dataclass(frozen=True, slots=True)
class ObservedRole:
    """What a site's rows do when they are moved, beside what the layout says; None: nothing that could be seen."""

    site: Site
    observed: Role | None


def observe_roles(
    model: nn.Module, inputs: Mapping[str, Any], family: str | None = None, sites: Sequence[Site] | None = None
) -> list[ObservedRole]:
    """What the rows of each site (default: all) do, by one forward pass with them moved and one without.

    Shift: all that enters the branch moves by the same amount. Scale: it moves otherwise, by that much of norm(x).
    Gate: what enters the branch stays, what leaves the block moves. The model is as it was afterwards.
    A final layer is left out where no last projection is known by its name.
    """
    live = Live(model, inputs, family)
    chosen = [site for site in (live.sites if sites is None else sites) if live.head or site.branch != "final"]
    watched = [*([live.head] if live.head else []), *live.modules(site for site in chosen if site.branch != "final")]
    before = trace(model, watched, inputs)
    roles = []
    for site in chosen:
        with _nudged(live, site):
            after = trace(model, watched, inputs)
        roles.append(ObservedRole(site, _effect(live, site, before, after)))
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
        handle = live.model.get_submodule(module_of(site)).register_forward_hook(nudge)
        try:
            yield
        finally:
            handle.remove()
        return
    rows = live.tensors[site.bias or ""].detach()[site.rows]
    kept = rows.clone()
    try:
        rows += _NUDGE
        yield
    finally:
        rows.copy_(kept)
