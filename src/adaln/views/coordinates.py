"""The coordinate check of muP: do activations, and what training adds to them, keep their size as the network widens?

The same network at several widths (heads of one width) learns a few steps from the same batches, once with one learning
rate for all weights and once with muP's, meant at the first width. Looked at are, by role and layer, the root mean
square of what layers give on the first batch, and of how that has changed since the start; a slope is that of the
logarithm over the logarithm of the width: 0 is what muP promises, 1 grows with the width.

Source: Yang et al. 2022, "Tensor Programs V" (arXiv 2203.03466), appendix D.1.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from math import log, sqrt
from pathlib import Path
from statistics import fmean, linear_regression

import torch
from torch import Tensor, nn

from adaln.conditioning import Layout, find_layout
from adaln.config import RunConfig, model_name
from adaln.models import OwnConfig, mup_factors
from adaln.progress import progress
from adaln.report import Axis, Column, Lines, Section, Series, Table
from adaln.runs import Run
from adaln.training import TrainState, batch_loss

Key = tuple[str, str]
"""Role and layer."""
RATES = ("one learning rate", "muP's learning rates")


@dataclass(frozen=True, slots=True)
class Slopes:
    """Of a role, the steepest of its layers."""

    activation: float
    update: float


@dataclass(frozen=True, slots=True)
class Coordinates:
    """What was measured under one choice of learning rates: root mean squares, one for each width."""

    widths: Sequence[int]
    activations: Mapping[Key, Sequence[float]]
    """At the start."""
    updates: Mapping[Key, Sequence[float]]
    """Of what the last step left unlike the start."""

    def slope(self, sizes: Sequence[float]) -> float:
        """Of the logarithm over that of the width; 0 for what is zero at a width."""
        if not all(sizes):
            return 0.0
        return linear_regression([log(width) for width in self.widths], [log(size) for size in sizes]).slope

    def by_role(self) -> dict[str, Slopes]:
        """The slopes that are farthest from 0."""
        layers: dict[str, list[Key]] = {}
        for key in self.updates:
            layers.setdefault(key[0], []).append(key)
        return {
            role: Slopes(
                *(max((self.slope(sizes[key]) for key in keys), key=abs) for sizes in (self.activations, self.updates))
            )
            for role, keys in layers.items()
        }


def check_coordinates(config: RunConfig, widths: Sequence[int], device: torch.device) -> dict[str, Coordinates]:
    """`config.steps` steps at every width, by the choice of learning rates; `ValueError` for a width that the network
    cannot have."""
    by_rates = {}
    wide = [at_width(config, width) for width in widths]
    for number, rates in enumerate(RATES):
        sizes = []
        for index, one in enumerate(wide):
            progress("coordinates", number * len(wide) + index, len(RATES) * len(wide), "networks")
            sizes.append(_sizes(Run(Path(config.name), one, device), widths[0] if number else None))
        start, change = ({key: [each[which][key] for each in sizes] for key in sizes[0][0]} for which in (0, 1))
        by_rates[rates] = Coordinates(widths, start, change)
    return by_rates


def at_width(config: RunConfig, width: int) -> RunConfig:
    """The same run of a network so wide, its heads as wide as they were."""
    model = config.model
    if isinstance(model, OwnConfig):
        raise ValueError(f"{model.describe()} has one width; expected a network of ours (adaln models)")
    heads = max(1, round(getattr(model, "num_heads", 1) * width / model.hidden_size))
    return replace(config, model=model.resized(hidden_size=width, num_heads=heads))


def _sizes(run: Run, base_width: int | None) -> tuple[dict[Key, float], dict[Key, float]]:
    """Of activations at the start, and of their changes after all steps."""
    run.check_fits()
    model, batches = run.new_model(), run.batches()
    layout = find_layout(model)
    factors = mup_factors(run.config.model, run.spec, base_width) if base_width else {}
    state = TrainState(model, run.config.optim, lr_factors=factors)

    def activations() -> dict[Key, Tensor]:
        with torch.no_grad(), seen(model, layout) as values:
            batch_loss(run, model, batches, 0)
        return values

    before = activations()
    for step in range(run.config.steps):
        loss = batch_loss(run, model, batches, step).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        state.update(loss)
    after = activations()
    return {key: _rms(one) for key, one in before.items()}, {key: _rms(after[key] - before[key]) for key in before}


def _rms(values: Tensor) -> float:
    return float(values.square().mean().sqrt())


@contextmanager
def seen(model: nn.Module, layout: Layout) -> Iterator[dict[Key, Tensor]]:
    """In this block what layers give, by role and layer, is kept here."""
    values: dict[Key, Tensor] = {}
    with ExitStack() as hooks:
        for key, name, rows in _layers(layout):

            def see(module: nn.Module, inputs: object, output: Tensor, key: Key = key, rows: slice = rows) -> None:
                values[key] = output.detach()[..., rows]

            hooks.callback(model.get_submodule(name).register_forward_hook(see).remove)
        yield values


def _layers(layout: Layout) -> Iterator[tuple[Key, str, slice]]:
    """What is looked at: role and layer, the module whose output it is, and which of its channels."""
    every = slice(None)
    for name in dict.fromkeys(name.partition(".")[0] for name in layout.embedders):
        yield ("embedding", name), name, every
    for site in layout.sites:
        if site.weight:
            role = f"{'final_' * (site.branch == 'final')}{site.role.name.lower()}"
            yield (role, f"{site.block} {site.branch}"), site.weight.removesuffix(".weight"), site.rows
    for name in layout.branch_ends:
        yield ("branch", name.removesuffix(".weight")), name.removesuffix(".weight"), every
    for name in layout.blocks:
        yield ("residual", name), name, every
    for name in layout.head:
        if name.endswith(".weight"):
            yield ("head", "output"), name.removesuffix(".weight"), every


def coordinate_section(config: RunConfig, by_rates: Mapping[str, Coordinates]) -> Section:
    """Slopes by role in a table, sizes of updates in pictures, and all that was measured by layer."""
    of = f"{model_name(config.model)} under {config.scheme.name}, {config.steps} steps of AdamW at {config.optim.lr:g}"
    widths = next(iter(by_rates.values())).widths
    rows = {rates: one.by_role() for rates, one in by_rates.items()}
    one_rate, mup = rows.values()
    slopes = Table(
        f"Slope of sizes over the width: {of}",
        [
            Column("role"),
            Column("activations", "start", "+.2f"),
            *(Column("updates", rates, "+.2f") for rates in by_rates),
        ],
        [[role, value.activation, value.update, mup[role].update] for role, value in one_rate.items()],
        notes=[
            f"Widths {', '.join(map(str, widths))}; of each role the layer farthest from 0. 0: as large at every width;"
            f" 1: grows with it. muP's rates are meant at width {widths[0]}."
        ],
    )
    figures = [
        Lines(
            f"Updates over the width, {rates}",
            f"Root mean square, over a role's layers, of how far outputs on the first batch have moved: {of}."
            f" {len(widths)} networks; flat lines are what muP promises.",
            Axis("width", scale="log"),
            Axis("size of updates", scale="log"),
            [series for role in one_rate if (series := _series(role, one)) is not None],
        )
        for rates, one in by_rates.items()
    ]
    return Section(
        "Coordinate check", [slopes, *figures, *(_all_layers(rates, one) for rates, one in by_rates.items())]
    )


def _series(role: str, coordinates: Coordinates) -> Series | None:
    """None for a role that did not move at some width."""
    layers = [sizes for key, sizes in coordinates.updates.items() if key[0] == role]
    values = [sqrt(fmean(size**2 for size in at)) for at in zip(*layers, strict=True)]
    return Series(role, list(coordinates.widths), values) if all(values) else None


def _all_layers(rates: str, coordinates: Coordinates) -> Table:
    return Table(
        f"Every layer, {rates}",
        [
            *map(Column, ("role", "layer")),
            *(Column(what, f"at {width}", ".3g") for what in ("start", "update") for width in coordinates.widths),
            Column("slope", "start", "+.2f"),
            Column("slope", "update", "+.2f"),
        ],
        [
            [*key, *start, *update, coordinates.slope(start), coordinates.slope(update)]
            for key, update in coordinates.updates.items()
            for start in [coordinates.activations[key]]
        ],
    )
