"""Gate, scale and shift of a network while anyone trains it: their values, gradients and updates, by role and block.

Gradient norms are of all entries. All else is of about `KEPT_ENTRIES` of each site, as many of every channel and, as
far as they go, of every column (`places`), so that a look costs little more than reading the gradients, and what is
kept between two updates is small; of sites that are no larger it is of all entries. Where sites of unlike width are
put together, each counts by the entries that it has. Nothing waits for the device but `records` and what looks for what
is not finite, or shut.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from math import isfinite, nan, sqrt
from statistics import fmean
from typing import Any

import torch
from jaxtyping import Float64, Int
from torch import Tensor, nn

from adaln.analysis.distributions import std_histogram
from adaln.analysis.groups import Group, bias_of, groups_of
from adaln.analysis.recorder import RoleRecord
from adaln.analysis.sketch import CHUNK_ELEMENTS, Sketch, merged, moments, resized, sketches
from adaln.conditioning import Layout, Role, Site, find_layout, roles_of
from adaln.conditioning.family import effect
from adaln.conditioning.roles import ROLES
from adaln.parallel import whole
from adaln.types import as_rows

KEPT_ENTRIES = 1 << 11
"""Of a site, or one of every channel where it has more: the std of a Gaussian role of two branches in one block has an
error of one percent."""


Numbers = tuple[float | None, float | None, float | None]
"""Ratio, share of entries that moved, and cosine of a group; None where they are not defined."""


@dataclass(frozen=True, slots=True)
class Watched:
    """The rows of a site in one tensor: its matrix, its table, or its bias beside a matrix."""

    site: Site
    name: str
    """Of the tensor."""
    values: nn.Parameter
    width: int
    """Entries of a row."""
    kept: int
    """Of every row."""
    size: int
    """Entries of all its rows."""
    is_bias: bool
    """Whether there is a matrix beside it."""
    groups: tuple[Group, ...]
    """All blocks, and its block; the final layer stands alone."""
    role: Group
    """That of its block, of the matrix where it is its bias."""

    @property
    def entries(self) -> int:
        """That are kept."""
        return self.size // max(1, self.width) * self.kept

    def copy_to(self, row: Tensor) -> None:
        """Those that are kept, as they are now."""
        rows = as_rows(whole(self.values.detach()))[self.site.rows]
        if self.kept < self.width:
            which = places(len(rows), self.width, self.kept, rows.device)
            torch.index_select(rows.reshape(-1), 0, which, out=row)
        else:
            row.copy_(rows.reshape(-1))

    def gradient_squares(self) -> Tensor:
        """Sum of squares of the gradients of all its rows; -1 where there is none."""
        gradient = self.values.grad
        return torch.tensor(-1.0) if gradient is None else squares(as_rows(whole(gradient))[self.site.rows])

    def squares(self) -> Tensor:
        """Sum of squares of all its entries."""
        return squares(as_rows(whole(self.values.detach()))[self.site.rows])


def squares(tensor: Tensor) -> Tensor:
    """Their sum; a dot product sums in blocks, which a norm of many entries does not."""
    flat = wide(tensor.detach().reshape(-1))
    return torch.dot(flat, flat)


def on_cpu(numbers: Sequence[Tensor]) -> Float64[Tensor, " n"]:
    """Numbers of whatever devices, each of which is waited for once."""
    there = torch.empty(len(numbers), dtype=torch.float64)
    for device in {one.device for one in numbers}:
        those = [i for i, one in enumerate(numbers) if one.device == device]
        there[those] = torch.stack([numbers[i] for i in those]).cpu().double()
    return there


def wide(tensor: Tensor) -> Tensor:
    """In float32 at least."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def watched_sites(model: nn.Module, layout: Layout) -> list[Watched]:
    """Every tensor of every site of a layout, with the network's own parameters."""
    parameters = dict(model.named_parameters())
    found = []
    for site in layout.sites:
        for name in site.tensors():
            matrix = as_rows(parameters[name])
            rows, width = len(range(*site.rows.indices(matrix.shape[0]))), matrix[:1].numel()
            kept = min(width, -(-KEPT_ENTRIES // max(1, rows))) if site.weight else width  # a table's are channels
            is_bias = name != site.tensors()[0]
            roles = groups_of(site, by_branch=False)
            groups = tuple(map(bias_of, roles)) if is_bias else roles
            found.append(Watched(site, name, parameters[name], width, kept, rows * width, is_bias, groups, roles[-1]))
    return found


@cache
def places(rows: int, width: int, kept: int, device: torch.device) -> Int[Tensor, " n"]:
    """Where in a matrix, read row by row, are those that are kept: of each row the next few columns, beginning again.

    Neighbours, because memory is read by lines; of every row, because channels differ by more than entries of one do:
    with stds that differ as in trained networks of ours (log-normal, 0.45 over channels, 0.2 over columns) the std of
    a role of two branches of width 1152 is 15 % off in seven whole rows of each, 2 % in two entries of each row.
    """
    row, column = torch.arange(rows)[:, None], torch.arange(kept)
    return (row * width + (row * kept + column) % max(1, width)).flatten().to(device)


@dataclass(frozen=True, slots=True)
class Entries:
    """The kept entries of every tensor at one moment, apart from the parameters."""

    alike: Mapping[tuple[int, ...], Tensor]
    """Of the tensors of these numbers, which keep as many entries of one type on one device, a row each."""

    def cpu(self) -> "Entries":
        """There; NumPy's to read."""
        return Entries({those: rows.cpu() for those, rows in self.alike.items()})

    def each(self) -> list[Tensor]:
        """Those of every tensor, in order."""
        rows = {i: row for those, matrix in self.alike.items() for i, row in zip(those, matrix.unbind(), strict=True)}
        return [rows[i] for i in range(len(rows))]


def entries_of(sites: Sequence[Watched]) -> Entries:
    """Those of all sites now; of what is spread over processes all must ask."""
    alike: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    for i, site in enumerate(sites):
        alike[site.entries, site.values.dtype, site.values.device].append(i)
    kept = {}
    for (number, dtype, device), those in alike.items():
        kept[tuple(those)] = torch.empty(len(those), number, dtype=dtype, device=device)
        for i, row in zip(those, kept[tuple(those)], strict=True):
            sites[i].copy_to(row)
    return Entries(kept)


def records(
    step: int, sites: Sequence[Watched], squares: Sequence[float], now: Entries, numbers: Mapping[Group, Numbers]
) -> list[RoleRecord]:
    """Every role over all blocks and in every block, and its biases over all blocks; of entries on the CPU.

    The gradient of a role is that of its biases too.
    """
    members, sketches, found = members_of(sites), sketches_of(sites, now), []
    for group in sorted(members, key=lambda group: (group.depth is not None, group.depth or 0, "bias" in group.name)):
        if group not in sketches:
            continue
        of, those = sketches[group], (*members[group], *members.get(bias_of(group), ()))
        norm = norm_of([squares[i] for i in those if sites[i].values.requires_grad])
        looked_at, size = moments(of), sum(sites[i].size for i in members[group])
        entries = None if looked_at.elements == size else size
        found.append(RoleRecord(step, group, looked_at, std_histogram(of), norm, *numbers[group], entries))
    return found


def members_of(sites: Sequence[Watched]) -> dict[Group, list[int]]:
    """Which tensors count in each group."""
    members: dict[Group, list[int]] = defaultdict(list)
    for i, watched in enumerate(sites):
        for group in watched.groups:
            members[group].append(i)
    return members


def norm_of(squares: Sequence[float]) -> float | None:
    """Of gradients; None where one is missing or not finite, or nothing is trained."""
    return sqrt(sum(squares)) if squares and min(squares) >= 0 and isfinite(sum(squares)) else None


def sketches_of(sites: Sequence[Watched], now: Entries) -> dict[Group, Sketch]:
    """Of every role in its block and over all blocks, and of its biases over all blocks."""
    alike: dict[tuple[Any, ...], list[Tensor]] = defaultdict(list)
    for watched, kept in zip(sites, now.each(), strict=True):
        alike[watched.groups[0 if watched.is_bias else -1], watched.size, kept.shape, kept.dtype].append(kept)
    together: dict[tuple[Any, ...], list[tuple[Group, int, list[Tensor]]]] = defaultdict(list)
    for (group, size, *kind), each in alike.items():
        together[len(each), *kind].append((group, size * len(each), each))
    parts: dict[Group, list[tuple[Sketch, int]]] = defaultdict(list)
    for those in together.values():
        rows = torch.stack([kept for *_, each in those for kept in each]).view(len(those), -1)
        for (group, size, _), of in zip(those, sketches(rows), strict=True):
            parts[group].append((of, size))
    in_blocks, over_all = {group: pooled(of) for group, of in parts.items()}, defaultdict(list)
    for group, of_it in in_blocks.items():
        over_all[replace(group, block=None, depth=None)].append(of_it)
    return {group: of for group, (of, _) in in_blocks.items()} | {g: pooled(of)[0] for g, of in over_all.items()}


def pooled(parts: Sequence[tuple[Sketch, int]]) -> tuple[Sketch, int]:
    """Sketches of what was kept of so many entries each, together: each counts by its entries."""
    kept = [of.count + of.nans + of.infs for of, _ in parts]
    size = sum(entries for _, entries in parts)
    fitted = [
        of if number * size == entries * sum(kept) else resized(of, round(entries * sum(kept) / size))
        for number, (of, entries) in zip(kept, parts, strict=True)
    ]
    return fitted[0] if len(fitted) == 1 else merged(fitted), size


Sums = Sequence[float]
"""Over the entries of one tensor, which add up over tensors.

Entries, changed ones, |update|^2, |weights before|^2, update . last update, |last update|^2; the last two NaN where
the one before was not seen.
"""


def update_sums(seen: Sequence[Tensor]) -> list[Sums]:
    """Of every row of entries after an update, before it and, where that was seen, before the last.

    A few rows at a time: fresh pages would cost more than sums. Rows have at most 2^24 entries: float32 counts them.
    """
    some = max(1, CHUNK_ELEMENTS // max(1, seen[0].shape[1]))
    return [
        row
        for rows in zip(*(torch.split(one, some) for one in seen), strict=True)
        for row in _sums_of(*map(wide, rows))
    ]


def _sums_of(now: Tensor, before: Tensor, *earlier: Tensor) -> list[Sums]:
    update = now - before
    sums = [torch.linalg.vector_norm(update, 0, 1), *(torch.linalg.vecdot(one, one) for one in (update, before))]
    if earlier:
        last = before - earlier[0]
        sums += [torch.linalg.vecdot(update, last), torch.linalg.vecdot(last, last)]
    rows = torch.stack(sums, 1).tolist()
    return [[update.shape[1], *row, *[nan] * (5 - len(row))] for row in rows]


def numbers_of(sites: Sequence[Watched], seen: Sequence[Entries]) -> dict[Group, Numbers]:
    """The last update of every group; `seen`: entries after it, before it, and so on."""
    if len(seen) < 2:
        return dict.fromkeys(members_of(sites), (None, None, None))
    sums: dict[int, Sums] = {}
    for those, now in seen[0].alike.items():
        for i, row in zip(those, update_sums([now, *(entries.alike[those] for entries in seen[1:])]), strict=True):
            share = sites[i].size / max(1, now.shape[1])  # the entries that one stands for
            sums[i] = [share * one for one in row]
    return {group: update_numbers([sums[i] for i in those]) for group, those in members_of(sites).items()}


def update_numbers(sums: Sequence[Sums]) -> Numbers:
    """Of what the sums of its tensors are."""
    entries, changed, update, before, product, last = map(sum, zip(*sums, strict=True))
    ratio = sqrt(update / before) if before and isfinite(update / before) else None
    cosine = product / sqrt(update * last) if isfinite(product) and update * last > 0 else None
    return ratio, changed / entries, cosine


def updates_by_role(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> dict[str, Numbers]:
    """`update_numbers` of every role of an optimiser, in the order of `ROLES`, over all entries of a network."""
    sums: dict[str, list[Sums]] = defaultdict(list)
    for part, role in roles_of(before, find_layout(before)).items():
        pieces = [torch.split(part.of(tensors).flatten(), CHUNK_ELEMENTS) for tensors in (after, before)]
        for seen in zip(*pieces, strict=True):
            sums[role] += update_sums([one[None] for one in seen])
    return {role: update_numbers(sums[role]) for role in ROLES if role in sums}


def are_finite(squares: Tensor, entries: Entries) -> bool:
    """Whether there is no sign of a weight that is not finite: it would have spread to every gradient by now."""
    shown = torch.stack([wide(rows).sum().cpu() for rows in entries.alike.values()])
    return bool(squares.isfinite().all() and shown.isfinite().all())


def not_finite_in(sites: Sequence[Watched]) -> list[str]:
    """The tensors, in forward order, of whose rows some entry is not finite; all entries are read."""
    sums = [site.squares() for site in sites]
    broken = [watched for watched, of_it in zip(sites, sums, strict=True) if not isfinite(float(of_it))]
    return list(dict.fromkeys(watched.name for watched in broken))


def broken_before(sites: Sequence[Watched], earlier: Sequence[Entries]) -> list[str]:
    """Those tensors that were not finite after the earliest update that left any so; `earlier`: the last one first."""
    for entries in reversed(earlier):
        broken = [one.name for one, kept in zip(sites, entries.each(), strict=True) if not bool(kept.isfinite().all())]
        if broken:
            return list(dict.fromkeys(broken))
    return []


def shut_branches(sites: Sequence[Watched], now: Entries, reached: Collection[int]) -> dict[Group, list[str]]:
    """Of the gates of a block the branches that they keep shut, whatever the condition.

    A gate is zero where all that it adds up is: matrix, bias and table, a block's own and those that blocks share.
    Where others have opened, one that is trained and whose gradient was never but zero (not in `reached`) is so by the
    network's design, which takes nothing from that branch: the last text branch of QwenImage, say.
    """
    gates = [
        (i, watched, bool(kept.any()) or bool(effect(Role.GATE, watched.site.function)(torch.zeros(()))))
        for i, (watched, kept) in enumerate(zip(sites, now.each(), strict=True))
        if watched.site.role is Role.GATE
    ]
    if any(is_open for _, watched, is_open in gates if not watched.site.is_of_one_block):
        return {}
    own = [gate for gate in gates if gate[1].site.is_of_one_block] or gates
    opened = {branch_of(watched) for _, watched, is_open in own if is_open}
    in_use = {branch_of(watched) for i, watched, _ in own if i in reached or not watched.values.requires_grad}
    shut: dict[Group, list[str]] = defaultdict(list)
    for _, watched, _ in own:
        branch = branch_of(watched)
        if branch not in opened and (branch in in_use or not opened) and not watched.is_bias:
            shut[watched.groups[-1]].append(watched.site.branch)
    return shut


def branch_of(watched: Watched) -> tuple[str | None, str]:
    """Of which block, and which of it."""
    return watched.site.block, watched.site.branch


def rms_by_role(sites: Sequence[Watched], now: Entries) -> dict[Group, float]:
    """Of each role of a block its rms over channels, of 1 + scale, for conditions whose entries have an rms of 1.

    sqrt(width E[W^2] + E[b^2]), with b the bias, or the table, and 1 + b for a scale unless the network multiplies by
    the scale itself. What a function bounds has none.
    """
    are_matrices = [bool(watched.site.weight) and not watched.is_bias for watched in sites]
    added = [float(w.site.role is Role.SCALE and not w.site.function) for w in sites]
    squares: dict[int, float] = {}
    for those, rows in now.alike.items():
        ones = torch.tensor([[0.0 if are_matrices[i] else added[i]] for i in those])
        of = wide(rows) + ones if ones.any() else wide(rows)
        squares |= zip(those, (torch.linalg.vecdot(of, of) / max(1, rows.shape[1])).tolist(), strict=True)
    sums: dict[Group, tuple[list[float], list[float]]] = defaultdict(lambda: ([], []))
    for i, watched in enumerate(sites):
        if watched.site.function in ("", "plain"):
            matrices, shifts = sums[watched.role]
            if are_matrices[i]:
                matrices.append(watched.width * squares[i])
                shifts += [] if watched.site.bias else [added[i]]
            else:
                shifts.append(squares[i])
    return {group: sqrt(fmean(matrices or [0.0]) + fmean(shifts)) for group, (matrices, shifts) in sums.items()}


def parameters_in(optimizer_groups: Iterable[Mapping[str, object]]) -> set[int]:
    """What an optimiser holds, by identity."""
    return {id(parameter) for group in optimizer_groups for parameter in group["params"]}  # type: ignore[attr-defined]
