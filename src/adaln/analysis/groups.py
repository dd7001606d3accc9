"""Which values are looked at together: a role over all blocks, in one block, in one branch; and every other module."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from adaln.conditioning import Site, family_of, find_sites


@dataclass(frozen=True, slots=True)
class Group:
    """Values that form one distribution. None where the group spans all of them."""

    name: str
    """A role ("gate", "final scale", ...), "gate bias", "gate table" (PixArt's), or one of the family's `groups`."""
    block: str | None = None
    depth: int | None = None
    """Place of the block in the forward pass."""
    branch: str | None = None


@dataclass(frozen=True, slots=True)
class GroupedRows:
    """Rows of one tensor, and every group that they count in."""

    tensor: str
    rows: slice
    groups: tuple[Group, ...]


def role_name(site: Site) -> str:
    """A role in words, with what sets it apart."""
    return "final " * (site.branch == "final") + site.role.name.lower() + " table" * (site.weight is None)


def groups_of(site: Site, *, by_branch: bool) -> tuple[Group, ...]:
    """The groups of a site: all blocks, its block, its branch there; the final layer stands alone (Figures 8, 14)."""
    role = role_name(site)
    if site.branch == "final":
        return (Group(role),)
    groups = Group(role), Group(role, site.block, site.depth), Group(role, site.block, site.depth, site.branch)
    return groups if by_branch else groups[:2]


def grouped_rows(tensors: Mapping[str, Tensor]) -> Iterator[GroupedRows]:
    """All rows of a model that belong to a group, roles first; reads names and shapes only."""
    yield from role_rows(tensors)
    for module, pattern in family_of(tensors).groups.items():
        for name in sorted(tensors):  # never the order of the mapping: files sort names, models do not
            if re.fullmatch(pattern, name):
                yield GroupedRows(name, slice(0, tensors[name].shape[0]), (Group(module),))


def role_rows(tensors: Mapping[str, Tensor]) -> Iterator[GroupedRows]:
    """The rows that are gate, scale or shift, in forward order: matrices, their biases, and tables."""
    for site in find_sites(tensors):
        yield GroupedRows(site.tensors()[0], site.rows, groups_of(site, by_branch=True))
        if site.weight and site.bias:
            biases = (replace(group, name=f"{group.name} bias") for group in groups_of(site, by_branch=False))
            yield GroupedRows(site.bias, site.rows, tuple(biases))
