"""Gate, scale and shift of a network while anyone trains it: their values, gradients and updates, by role and block.

Gradient norms are of all entries. All else is of whole rows of each site, evenly spaced, at most `MOST_ENTRIES` entries
of them, so that a look costs little more than reading the gradients, and what is kept between two updates is small; of
sites that are no larger it is of all entries. Nothing waits for the device but `records` and `not_finite_in`.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, nan, sqrt

import torch
from torch import Tensor, nn

from adaln.analysis.distributions import std_histogram
from adaln.analysis.groups import Group, groups_of
from adaln.analysis.recorder import RoleRecord
from adaln.analysis.sketch import moments, sketch
from adaln.conditioning import Layout, Site, find_layout, roles_of
from adaln.conditioning.roles import ROLES
from adaln.parallel import whole
from adaln.types import as_rows

MOST_ENTRIES = 1 << 13
"""Of a site, of which all but norms is; the std of a role in one block has an error below one percent."""


@dataclass(frozen=True, slots=True)
class Watched:
    """A site, its parameters, and which of its rows are kept."""

    site: Site
    values: nn.Parameter
    """The matrix, or the table."""
    bias: nn.Parameter | None
    rows: slice

    def entries(self) -> Tensor:
        """The kept rows as they are now, flat, apart from the parameter."""
        return as_rows(whole(self.values.detach()))[self.rows].reshape(-1).clone()

    def gradient_squares(self) -> Tensor:
        """Sum of squares of the gradients of all its rows; -1 where there is none."""
        parts = [part.grad for part in (self.values, self.bias) if part is not None]
        if any(part is None for part in parts):
            return torch.tensor(-1.0)
        first, *others = [squares(as_rows(whole(part))[self.site.rows]) for part in parts if part is not None]
        return sum(others, first)

    def squares(self) -> Tensor:
        """Sum of squares of all its entries."""
        return squares(as_rows(whole(self.values.detach()))[self.site.rows])


def squares(tensor: Tensor) -> Tensor:
    """Their sum; a dot product sums in blocks, which a norm of many entries does not."""
    flat = tensor.detach().reshape(-1)
    flat = flat if flat.dtype == torch.float64 else flat.float()
    return torch.dot(flat, flat)


def watched_sites(model: nn.Module, layout: Layout) -> list[Watched]:
    """Every site of a layout, with the network's own parameters."""
    parameters = dict(model.named_parameters())
    found = []
    for site in layout.sites:
        name = site.tensors()[0]
        matrix = as_rows(parameters[name])
        start, stop, _ = site.rows.indices(matrix.shape[0])
        kept = max(1, MOST_ENTRIES // max(1, matrix[:1].numel()))
        bias = parameters[site.bias] if site.weight and site.bias else None
        found.append(Watched(site, parameters[name], bias, slice(start, stop, -(-(stop - start) // kept))))
    return found


Entries = Sequence[Tensor]
"""Of every site, in order."""


def entries_of(sites: Iterable[Watched]) -> Entries:
    """The kept rows of all sites now; of what is spread over processes all must ask."""
    return [site.entries() for site in sites]


def gradient_squares(sites: Iterable[Watched]) -> Sequence[Tensor]:
    """Of every site, in order, on the device of its parameters."""
    return [site.gradient_squares() for site in sites]


def records(step: int, sites: Sequence[Watched], squares: Sequence[float], seen: Sequence[Entries]) -> list[RoleRecord]:
    """Every role over all blocks and in every block; `seen`: entries after this update, and before it, and so on."""
    members: dict[Group, list[int]] = defaultdict(list)
    for i, watched in enumerate(sites):
        for group in groups_of(watched.site, by_branch=False):
            members[group].append(i)
    now = [entries.cpu() for entries in seen[0]]
    updates = [update_sums([entries[i] for entries in seen]) for i in range(len(sites))]
    found = []
    for group in sorted(members, key=lambda group: (group.depth is not None, group.depth or 0)):
        those = members[group]
        of = sketch(torch.cat([now[i] for i in those]))
        parts = [squares[i] for i in those]
        norm = sqrt(sum(parts)) if min(parts) >= 0 and isfinite(sum(parts)) else None
        numbers = update_numbers([updates[i] for i in those])
        found.append(RoleRecord(step, group, moments(of), std_histogram(of), norm, *numbers))
    return found


def update_sums(entries: Entries) -> list[float] | None:
    """Of one site: sums over its entries that add up over sites; None where no update was seen.

    Entries, changed ones, |update|^2, |weights before|^2, update . last update, |last update|^2; the last two NaN where
    the one before was not seen.
    """
    if len(entries) < 2:
        return None
    now, before = entries[0].float(), entries[1].float()
    update = now - before
    sums = [update.count_nonzero().float(), torch.dot(update, update), torch.dot(before, before)]
    if len(entries) > 2:
        earlier = before - entries[2].float()
        sums += [torch.dot(update, earlier), torch.dot(earlier, earlier)]
    return [len(update), *torch.stack(sums).tolist(), *[nan] * (5 - len(sums))]


def update_numbers(sums: Sequence[list[float] | None]) -> tuple[float | None, float | None, float | None]:
    """Ratio, share of entries that moved, and cosine of a group; None where they are not defined."""
    seen = [one for one in sums if one is not None]
    if not seen:
        return None, None, None
    entries, changed, update, before, product, last = map(sum, zip(*seen, strict=True))
    ratio = sqrt(update / before) if before and isfinite(update / before) else None
    cosine = product / sqrt(update * last) if isfinite(product) and update * last > 0 else None
    return ratio, changed / entries, cosine


def updates_by_role(
    before: Mapping[str, Tensor], after: Mapping[str, Tensor]
) -> dict[str, tuple[float | None, float | None, float | None]]:
    """`update_numbers` of every role of an optimiser, in the order of `ROLES`, over all entries of a network."""
    sums: dict[str, list[list[float] | None]] = defaultdict(list)
    for part, role in roles_of(before, find_layout(before)).items():
        sums[role].append(update_sums([part.of(tensors).flatten() for tensors in (after, before)]))
    return {role: update_numbers(sums[role]) for role in ROLES if role in sums}


def not_finite_in(sites: Sequence[Watched]) -> list[str]:
    """The tensors, in forward order, of whose rows some entry is not finite; all entries are read."""
    sums = [site.squares() for site in sites]
    broken = [watched for watched, of_it in zip(sites, sums, strict=True) if not isfinite(float(of_it))]
    return list(dict.fromkeys(watched.site.tensors()[0] for watched in broken))


def parameters_in(optimizer_groups: Iterable[Mapping[str, object]]) -> set[int]:
    """What an optimiser holds, by identity."""
    return {id(parameter) for group in optimizer_groups for parameter in group["params"]}  # type: ignore[attr-defined]
