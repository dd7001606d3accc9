"""Gauges of a network by depth and time: its residual stream, and the condition vectors of different classes.

Source: arXiv 2605.06169 (the mean token takes over), 2510.11538 (few channels do), 2602.21596 (conditions are alike).
"""

# mypy: disallow-untyped-calls=False
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from adaln.analysis.live import module_of, modules_of
from adaln.analysis.operations import Counted, run, tensors_of
from adaln.conditioning import Layout, find_layout
from adaln.types import Labels, Latents


@dataclass(frozen=True, slots=True)
class StreamGauge:
    """The residual stream as it leaves a block at one time, over all images of a batch."""

    block: str
    t: float
    norm: float
    """Euclidean norm of a token, mean over tokens."""
    cosine: float
    """Between a token and what it was when it entered the block, mean over tokens."""
    mean_share: float
    """Squared norm of an image's mean token over the mean squared norm of its tokens; 1: all tokens are alike."""
    largest: float
    """Root mean square of the largest channel over that of the median channel."""
    channel: int
    """Which that is."""


@dataclass(frozen=True, slots=True)
class ConditionGauge:
    """Condition vectors at one time, of a batch's labels: what enters the first modulation layer, before its SiLU
    where both are one `nn.Sequential`."""

    t: float
    cosine: float
    """Mean over pairs of different labels."""
    least_cosine: float
    participation: float
    """(sum v^2)^2 / sum v^4 of a vector v, mean over labels: how many of its entries carry it."""
    width: int
    """Entries of a vector."""
    directions: float
    """(sum l)^2 / sum l^2 of the eigenvalues l of their covariance: in how many directions labels differ."""


@torch.no_grad()
def gauges(
    model: nn.Module, x: Latents, times: Sequence[float | int], y: Labels | None
) -> tuple[list[StreamGauge], list[ConditionGauge]]:
    """All gauges at all times, one forward pass each; no more than one block's tokens are kept at a time.

    `times` are in the process's own units; `y` are different labels. None of conditions where there are no labels, or
    no modulation.
    """
    layout = find_layout(model)
    blocks, widths = {name: block for block, name in modules_of(model, layout).items()}, widths_of(layout)
    entrances = condition_modules(model, layout)
    streams, conditions = [], []
    for t in torch.as_tensor(times):
        watched = _Watched(blocks, widths, next(iter(entrances), None), float(t))
        run(model, {"x": x, "t": t.to(x.device).expand(len(x)), "y": y}, watched)
        streams += watched.streams
        if y is not None and watched.condition is not None and len(watched.condition) == len(y) > 1:
            conditions.append(condition_gauge(watched.condition, float(t)))
    return streams, conditions


@contextmanager
def pruned_conditions(model: nn.Module, share: float) -> Iterator[None]:
    """In this block the `share` of smallest entries of every condition vector is zero where it enters modulation.

    Source: arXiv 2602.21596, which drops entries of small magnitude from the conditions of trained networks.
    """

    def prune(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        sizes, count = args[0].abs(), round(share * args[0].shape[-1])
        if not count:
            return args
        return args[0].where(sizes > sizes.kthvalue(count, dim=-1, keepdim=True).values, 0), *args[1:]

    entrances = condition_modules(model, find_layout(model))
    handles = [model.get_submodule(name).register_forward_pre_hook(prune) for name in entrances]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def condition_modules(model: nn.Module, layout: Layout) -> list[str]:
    """The names of the modules that the condition enters, the last layer's last; none where no block has any."""

    def entrance(matrix: str) -> str:
        parent = matrix.rpartition(".")[0]
        return parent if isinstance(model.get_submodule(parent), nn.Sequential) else matrix

    sites = [site for site in layout.sites if site.weight]
    inner, last = ([module_of(site) for site in sites if (site.branch == "final") == is_last] for is_last in (0, 1))
    return list(dict.fromkeys(map(entrance, [*inner, *last]))) if inner else []


def widths_of(layout: Layout) -> dict[str, int]:
    """Channels of the stream by block, as many as a role has rows; "" of any block that has no rows of its own."""
    widths: dict[str, int] = {}
    for site in layout.sites:
        if site.branch != "final":
            widths.setdefault(site.block if site.is_of_one_block else "", site.rows.stop - site.rows.start)
    return widths


def channels_last(x: Tensor, width: int | None) -> Tensor:
    """The stream of a convolutional block as tokens have it; what has `width` channels at its end, as it is."""
    return x.movedim(1, -1) if width is not None and x.shape[-1] != width == x.shape[1] else x


class _Watched(Counted):
    """The stream of every block the first time it runs, and the condition where it first enters a modulation layer."""

    def __init__(
        self, blocks: Mapping[str, str], widths: Mapping[str, int], condition_module: str | None, t: float
    ) -> None:
        super().__init__()
        self.blocks, self.widths, self.condition_module, self.t = dict(blocks), widths, condition_module, t
        self.entered: dict[str, list[Tensor]] = {}
        self.streams: list[StreamGauge] = []
        self.condition: Float[Tensor, "B D"] | None = None

    def enter(self, name: str, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        super().enter(name, module, args, kwargs)
        if name in self.blocks:
            self.entered[name] = [tensor.clone() for tensor in tensors_of((args, dict(kwargs))) if tensor.ndim > 2]
        if name == self.condition_module and self.condition is None:
            entering = next(tensors_of((args, dict(kwargs))))
            self.condition = entering.reshape(len(entering), -1, entering.shape[-1])[:, 0]

    def leave(self, name: str, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        super().leave(name, module, args, output)
        if name in self.blocks:
            block, leaving = self.blocks.pop(name), next(tensors_of(output))
            entering = next((tensor for tensor in self.entered.pop(name) if tensor.shape == leaving.shape), None)
            if entering is not None:
                width = self.widths.get(block, self.widths.get(""))
                pair = (channels_last(tensor, width) for tensor in (entering, leaving))
                self.streams.append(stream_gauge(block, self.t, *pair))


def stream_gauge(
    block: str, t: float, entering: Float[Tensor, "B *space D"], leaving: Float[Tensor, "B *space D"]
) -> StreamGauge:
    """Of the tokens that enter a block and leave it."""
    before, after = entering.flatten(1, -2).float(), leaving.flatten(1, -2).float()
    mean_token, channels = after.mean(1), after.square().mean((0, 1)).sqrt()
    channel = int(channels.argmax())
    return StreamGauge(
        block,
        t,
        norm=float(after.norm(dim=-1).mean()),
        cosine=float(F.cosine_similarity(before, after, dim=-1).mean()),
        mean_share=_ratio(mean_token.square().sum(), after.square().sum((0, 2)).mean()),
        largest=_ratio(channels[channel], channels.median()),
        channel=channel,
    )


def condition_gauge(vectors: Float[Tensor, "B D"], t: float) -> ConditionGauge:
    """Of vectors of different labels."""
    vectors = vectors.double().cpu()
    directions = F.normalize(vectors, dim=-1)
    cosines = (directions @ directions.T)[~torch.eye(len(vectors), dtype=torch.bool)]
    return ConditionGauge(
        t,
        cosine=float(cosines.mean()),
        least_cosine=float(cosines.min()),
        participation=fmean(map(_participation, vectors.square())),
        width=vectors.shape[-1],
        directions=_participation(torch.linalg.svdvals(vectors - vectors.mean(0)).square()),
    )


def _participation(weights: Float[Tensor, "N"]) -> float:
    """How many of `weights` make up their sum: 1 of a single one, N of equal ones, 0 where all are 0."""
    return _ratio(weights.sum() ** 2, weights.square().sum())


def _ratio(a: Tensor, b: Tensor) -> float:
    """a / b, and 0 where both are 0."""
    return float(a / b.clamp_min(1e-30))
