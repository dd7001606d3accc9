"""Weights as points: distance and line between two runs, the same values elsewhere."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt

import torch
from jaxtyping import Float
from torch import Tensor, nn

from adaln.analysis.groups import FindRows, Group, grouped_rows
from adaln.analysis.live import role_effects
from adaln.analysis.sketch import CHUNK_ELEMENTS
from adaln.conditioning import Role, find_layout, find_sites
from adaln.rng import generator
from adaln.tensor_files import shapes
from adaln.types import Labels, Latents, as_rows


@dataclass(frozen=True, slots=True)
class Distance:
    """How far the values of a group are from the values of another model at the same places."""

    group: Group
    mean_absolute: float
    """mean |a - b| (A.9)."""
    euclidean: float
    relative: float | None
    """|a - b| / |a|; None where a is zero."""
    cosine: float | None
    """Cosine of the angle between a and b; None where one is zero."""


@dataclass(frozen=True, slots=True)
class GateSize:
    """The gate of one branch at one time: mean over samples and channels of |alpha|, and its root mean square."""

    block: str
    depth: int
    branch: str
    t: float
    mean_absolute: float
    rms: float


def distances(a: Mapping[str, Tensor], b: Mapping[str, Tensor], find_rows: FindRows = grouped_rows) -> list[Distance]:
    """Distances between two models, or two checkpoints of one, for every group; read once, in chunks.

    Raises `ValueError` naming the first tensor that is not in both, or not of one shape.
    """
    _check_alike(shapes(a), shapes(b))
    sums: dict[Group, Tensor] = defaultdict(lambda: torch.zeros(6, dtype=torch.float64))
    for grouped in find_rows(shapes(a)):
        total = _pair_sums(*(as_rows(side[grouped.tensor])[grouped.rows] for side in (a, b)))
        for group in grouped.groups:
            sums[group] += total
    return [_distance(group, total) for group, total in sums.items()]


def interpolate(a: Mapping[str, Tensor], b: Mapping[str, Tensor], weight: float) -> dict[str, Tensor]:
    """(1 - weight) a + weight b, tensor by tensor, exactly a at 0 and b at 1; what is not floating comes from a."""
    _check_alike(a, b)
    return {
        name: torch.lerp(tensor, b[name], weight) if tensor.is_floating_point() else tensor
        for name, tensor in a.items()
    }


@torch.no_grad()
def permute_role(model: nn.Module, role: Role, seed: int = 0) -> None:
    """Shuffle the values of a role in place, within each site of the blocks: same histograms, another point.

    The histogram of every block and branch stays what it was; biases and the final layer are left alone.
    """
    parameters = dict(model.named_parameters())
    sites = [site for site in find_sites(parameters) if site.role is role and site.branch != "final"]
    for index, site in enumerate(sites):
        rows = as_rows(parameters[site.tensors()[0]])[site.rows]
        order = torch.randperm(rows.numel(), generator=generator("permute role", seed, index)).to(rows.device)
        rows.copy_(rows.flatten()[order].view_as(rows))


@torch.no_grad()
def gate_sizes(model: nn.Module, x: Latents, times: Sequence[float | int], y: Labels | None) -> list[GateSize]:
    """The size of every gate at every time, by depth, measured on a batch as the network really computes it.

    Gates depend on time and label only; `x` just lets the network run. `times` are in the process's own units.
    """
    layout, gates = find_layout(model), []
    for t in torch.as_tensor(times):
        for site, gate in role_effects(model, {"x": x, "t": t.to(x.device).expand(len(x)), "y": y}, layout):
            sizes = float(gate.abs().mean()), float(gate.square().mean().sqrt())
            gates.append(GateSize(site.block, site.depth, site.branch, float(t), *sizes))
    return gates


def _check_alike(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> None:
    """`ValueError` naming the first tensor that two models do not share by name and shape."""
    for name in [*a, *b]:
        if name not in a or name not in b:
            raise ValueError(f"tensor {name!r} is in one of the two models only; expected two models of one shape")
        if a[name].shape != b[name].shape:
            raise ValueError(f"tensor {name!r} has shapes {tuple(a[name].shape)} and {tuple(b[name].shape)}")


def _pair_sums(a: Tensor, b: Tensor) -> Float[Tensor, "6"]:
    """(count, sum |a - b|, |a - b|^2, a b, |a|^2, |b|^2), in float64."""
    total = torch.zeros(6, dtype=torch.float64)
    flat = (torch.split(t.detach().cpu().reshape(-1), CHUNK_ELEMENTS) for t in (a, b))
    for x, y in zip(*flat, strict=True):
        x, y = x.double(), y.double()
        gap = x - y
        total += torch.stack([gap.new_tensor(len(gap)), gap.abs().sum(), gap @ gap, x @ y, x @ x, y @ y])
    return total


def _distance(group: Group, sums: Float[Tensor, "6"]) -> Distance:
    count, absolute, square, product, aa, bb = sums.tolist()
    return Distance(
        group,
        mean_absolute=absolute / max(count, 1),
        euclidean=sqrt(square),
        relative=sqrt(square / aa) if aa else None,
        cosine=product / sqrt(aa) / sqrt(bb) if aa and bb else None,
    )
