"""The start of a network, ours or anyone's, as a scheme says."""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from adaln.conditioning.distributions import Distribution
from adaln.conditioning.family import Role
from adaln.conditioning.schemes import ZERO, Scheme
from adaln.conditioning.schemes import scheme as scheme_of
from adaln.conditioning.sites import Site, UnknownLayout, find_backbone, find_branch_ends, find_head, find_sites
from adaln.rng import generator


def initialise(
    model: nn.Module,
    scheme: str | Scheme = "adaln-gaussian",
    seed: int | torch.Generator = 0,
    *,
    family: str | None = None,
) -> list[Site]:
    """Start the conditioning of any diffusion transformer, yours or a library's, as a scheme says, in place.

    `scheme` is a name, `name:std[,std,...]`, a .json or .toml file, or a `Scheme`; modulation layers and the last
    projection change, all else stays (unless the scheme names it). Returns the sites that were found, in forward order.
    With the seed of a run, the start is that run's; a generator is drawn from as it is. `family` decides between two
    families of the same names.
    Raises `ValueError` in one line for an unknown scheme or network, or one with no place for what the scheme says.

    >>> from torch import nn
    >>> import adaln
    >>> blocks = [nn.ModuleDict({"adaLN_modulation": nn.Sequential(nn.SiLU(), nn.Linear(8, 48))}) for _ in range(2)]
    >>> net = nn.ModuleDict({"blocks": nn.ModuleList(blocks)})
    >>> [site.role.name for site in adaln.initialise(net, "adaln-zero")][:3]
    ['SHIFT', 'SCALE', 'GATE']
    >>> bool(blocks[1]["adaLN_modulation"][1].weight.any())
    False
    """
    scheme = scheme_of(scheme)
    rng = seed if isinstance(seed, torch.Generator) else generator("scheme", seed)
    tensors = dict(model.named_parameters())
    sites, starts = find_sites(tensors, family), all_starts(tensors, scheme, family)
    if meta := [name for name, tensor in tensors.items() if tensor.is_meta]:
        raise ValueError(f"{meta[0]!r} is on the meta device, where nothing is kept; expected a network in memory")
    with torch.no_grad():
        for name, rows, distribution in starts:
            distribution.fill_(tensors[name][rows], rng, tensors[name].shape)
    return sites


def all_starts(
    tensors: Mapping[str, Tensor], scheme: Scheme, family: str | None = None
) -> list[tuple[str, slice, Distribution]]:
    """Tensor, rows and start of all that a scheme says of a network, in the order of the draws.

    Reads names and shapes alone; `ValueError` as `initialise`.
    """
    sites, whole = find_sites(tensors, family), slice(None)
    if not sites:
        raise UnknownLayout("no modulation layer of a known layout among these tensors; expected those of a DiT")
    starts = list(starts_of(scheme, sites))
    for name in find_head(tensors, family):
        starts.append((name, whole, scheme.head.weight if name.endswith("weight") else scheme.head.bias))
    if scheme.backbone:
        starts += [(name, whole, scheme.backbone) for name in find_backbone(tensors, family)]
    if scheme.branch_ends:
        ends = [(name, whole, scheme.branch_ends) for name in find_branch_ends(tensors, family)]
        if not ends:
            raise ValueError(
                f"scheme {scheme.name!r} starts the branches' last matrices; expected a network of our own"
            )
        starts += ends
    return starts


def starts_of(scheme: Scheme, sites: Sequence[Site]) -> Iterator[tuple[str, slice, Distribution]]:
    """Tensor, rows and start of all that a scheme says of these sites, in the order of the draws.

    Raises `ValueError` where a block-wise scheme does not fit.
    """
    check_fits(scheme, sites)
    tabled = any(site.weight is None for site in sites)  # then the tables carry the bias of every block
    for site in sites:
        start = scheme.at(site)
        if site.weight:
            yield site.weight, site.rows, start.weight
        if site.bias:
            yield site.bias, site.rows, ZERO if tabled and site.weight and site.branch != "final" else start.bias


def check_fits(scheme: Scheme, sites: Sequence[Site]) -> None:
    """`ValueError` where a network has no place for what the scheme says.

    Starts block by block for another depth, a bias other than zero for layers without, a final shift where none is.
    """
    num_blocks = len({site.depth for site in sites if site.branch != "final"})
    for role in ("gate", "scale", "shift"):
        starts = getattr(scheme, role)
        if isinstance(starts, tuple) and len(starts) != num_blocks:
            raise ValueError(
                f"scheme {scheme.name!r} starts the {role} of {len(starts)} blocks one by one, the model has"
                f" {num_blocks} (a polynomial explodes outside its range: fit a start from a pilot run of this model)"
            )
    for site in sites:
        if site.bias is None and scheme.at(site).bias != ZERO:
            raise ValueError(
                f"scheme {scheme.name!r} starts the {site.role.name.lower()} by its bias, {site.weight!r} has none"
            )
    shifted = any(site.branch == "final" and site.role is Role.SHIFT and site.weight for site in sites)
    if scheme.final_shift.weight != ZERO and not shifted:
        raise ValueError(f"scheme {scheme.name!r} starts the final shift, the model has no matrix for it")
