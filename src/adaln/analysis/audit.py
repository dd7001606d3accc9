"""An audit of anyone's diffusion transformer: where its conditioning lives, how it was started, what fools people.

`audit` reads weights, from memory or a file, fresh or trained. `audit_live` runs a network as well: how much each gate
lets through, and whether rows do what the layout says. Nothing is changed. All results are plain data for JSON.

>>> import torch
>>> from adaln.models import MODELS, build
>>> from adaln.rng import generator
>>> from adaln.types import DataSpec
>>> found = audit_live(build(MODELS["tiny"], DataSpec(1, 8, 8, 10), generator("example")))
>>> found.family, found.start.name, found.start.is_start
('DiT', 'adaln-zero', True)
>>> [energy.ratio for energy in found.energies[:2]]
[0.0, 0.0]
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any

import torch
from torch import Tensor, nn

from adaln.analysis.distributions import sketches
from adaln.analysis.findings import Facts, Finding, findings
from adaln.analysis.groups import Group, Piece
from adaln.analysis.residual_energy import BranchEnergy, branch_energies
from adaln.analysis.role_check import observe_roles
from adaln.analysis.sketch import Moments, Sketch, moments
from adaln.analysis.standard_inputs import standard_inputs
from adaln.analysis.starts import Distances, Key, NearestStart, distances, known_starts, nearest_start
from adaln.conditioning import Role, Site, UnknownLayout, find_family, find_head, find_sites
from adaln.tensors import shapes


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One role in one block (None: in all of them), its branches together."""

    role: str
    """"gate", "scale", "shift", "final scale", "final shift"; "gate table", ... where a table holds it."""
    block: str | None
    depth: int | None
    shape: tuple[int, ...]
    """Rows of all branches, and columns."""
    moments: Moments
    bias: Moments | None
    nearest: NearestStart
    """Of these rows alone, weights and biases."""


@dataclass(frozen=True, slots=True)
class Audit:
    """All that an audit found."""

    family: str
    num_blocks: int
    start: NearestStart
    """Of all modulation layers together."""
    rows: tuple[AuditRow, ...]
    head: Moments | None
    """Of the last projection."""
    findings: tuple[Finding, ...]
    energies: tuple[BranchEnergy, ...] = ()
    """Of a live network, as it is now: at step 0 if it is fresh."""


def audit(tensors: Mapping[str, Tensor], family: str | None = None) -> Audit:
    """Audit weights by name: parameters, a state dict, a `TensorFile`.

    Raises `UnknownLayout` where no layout fits, or two do and `family` does not say which.
    """
    return _report(_facts(tensors, family))


def audit_live(model: nn.Module, inputs: Mapping[str, Any] | None = None, family: str | None = None) -> Audit:
    """Audit a network and run it: branch energies from one pass, roles from one pass for each kind of site.

    `inputs` are keyword arguments of its forward pass, by default `standard_inputs`.
    Raises what `audit` raises, and `ValueError` for a class that has no standard inputs.
    """
    facts = _facts(dict(model.named_parameters()), family)
    given = standard_inputs(model) if inputs is None else inputs
    if facts.not_finite:  # nothing could be seen
        return _report(facts)
    observed = observe_roles(model, given, family, _one_of_each(facts.sites))
    energies = tuple(branch_energies(model, given, family))
    return replace(_report(replace(facts, observed=tuple(observed))), energies=energies)


def _one_of_each(sites: Sequence[Site]) -> list[Site]:
    """The sites of the first block of every kind, kinds told apart by what they hold."""
    of_block: dict[str, list[Site]] = defaultdict(list)
    for site in sites:
        of_block[site.block].append(site)
    kinds = {tuple((site.branch, site.role) for site in block): block for block in reversed(of_block.values())}
    return [site for block in kinds.values() for site in block]


def _facts(tensors: Mapping[str, Tensor], family: str | None) -> Facts:
    known = shapes(tensors)
    sites, found = find_sites(known, family), find_family(known, family)
    if found is None:
        raise UnknownLayout(
            "no modulation layer of a known layout among these tensors; expected a diffusion transformer"
        )
    head = find_head(known)

    def pieces(_: Mapping[str, Tensor]) -> Iterator[Piece]:
        for site in sites:
            for name in site.tensors():
                yield Piece(name, site.rows, (Group(name, depth=site.rows.start),))
        for name in head:
            yield Piece(name, slice(0, known[name].shape[0]), (Group("head"),))

    values = sketches(tensors, pieces)
    groups = {(group.name, group.depth): sketch for group, sketch in values.items() if group.depth is not None}
    to_starts = distances(groups, known_starts(sites, known))
    return Facts(
        family=found,
        sites=tuple(sites),
        shapes=known,
        groups=groups,
        head=values.get(Group("head")),
        distances=to_starts,
        start=nearest_start(groups, to_starts),
        not_finite=tuple(_not_finite(tensors)),
    )


def _not_finite(tensors: Mapping[str, Tensor]) -> Iterator[str]:
    """Tensors that hold NaN or infinities: the extremes tell, without a copy."""
    for name in tensors:
        tensor = tensors[name].detach()
        if tensor.is_floating_point() and tensor.numel():
            low, high = (float(extreme) for extreme in torch.aminmax(tensor))
            if not (isfinite(low) and isfinite(high)):
                yield name


def _report(facts: Facts) -> Audit:
    blocks = {site.depth for site in facts.sites if site.branch != "final"}
    head = moments(facts.head) if facts.head else None
    return Audit(facts.family, len(blocks), facts.start, tuple(_rows(facts)), head, tuple(findings(facts)))


def _rows(facts: Facts) -> Iterator[AuditRow]:
    """Role by role; of each role all blocks together, then one by one in forward order."""
    of_role: dict[str, list[Site]] = defaultdict(list)
    for site in sorted(facts.sites, key=lambda s: (s.branch == "final", s.weight is None, list(Role).index(s.role))):
        of_role[role_name(site)].append(site)
    for role, sites in of_role.items():
        of_block: dict[int, list[Site]] = defaultdict(list)
        for site in sites:
            of_block[site.depth].append(site)
        if len(of_block) > 1:
            yield _row(role, None, None, sites, facts)
        for depth, some in of_block.items():
            yield _row(role, some[0].block, depth, some, facts)


def role_name(site: Site) -> str:
    """A role in words, with what sets it apart."""
    return "final " * (site.branch == "final") + site.role.name.lower() + " table" * (site.weight is None)


def _row(role: str, block: str | None, depth: int | None, sites: Sequence[Site], facts: Facts) -> AuditRow:
    main: list[Key] = [(site.tensors()[0], site.rows.start) for site in sites]
    biases: list[Key] = [(site.bias, site.rows.start) for site in sites if site.weight and site.bias]
    num_rows = sum(site.rows.stop - site.rows.start for site in sites)
    return AuditRow(
        role,
        block,
        depth,
        (num_rows, *facts.shapes[sites[0].tensors()[0]].shape[1:]),
        moments(_sum(facts.groups[key] for key in main)),
        moments(_sum(facts.groups[key] for key in biases)) if biases else None,
        nearest_start({key: facts.groups[key] for key in (*main, *biases)}, _ordered(facts)),
    )


def _sum(values: Iterator[Sketch]) -> Sketch:
    return sum(values, Sketch())


def _ordered(facts: Facts) -> Distances:
    """The known starts, that of the whole model first: it wins where a single row cannot tell."""
    return {facts.start.name: facts.distances[facts.start.name], **facts.distances}
