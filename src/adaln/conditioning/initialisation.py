"""The start of a network, ours or anyone's, as a scheme says."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import overload

import torch
from torch import Tensor, nn

from adaln.conditioning.choice import UnknownLayout
from adaln.conditioning.distributions import Constant, Default, Distribution, PerBranch
from adaln.conditioning.family import Family, Role, effect
from adaln.conditioning.held_rows import Hold, Loss, Order, held_by
from adaln.conditioning.layout import Layout, class_name_in, find_layout, naming_ties, tensors_of
from adaln.conditioning.scheme_row import ZERO, Mechanism, Scheme, Start
from adaln.conditioning.schemes import SCHEMES
from adaln.conditioning.schemes import scheme as scheme_of
from adaln.conditioning.sites import Site, static_tensors
from adaln.conditioning.startable import (
    check_kept,
    check_range,
    check_used,
    check_written,
    made_of,
    stream_of,
    whole_of,
    with_made,
)
from adaln.parallel import fill_part, is_sharded, own
from adaln.types import rows_axis

_WORDS: Mapping[str, str] = {
    "backbone": "attention and MLP matrices",
    "branch_ends": "the branches' last matrices",
    "embedders": "what embeds patches and times",
    "static_gates": "static gates",
}
"""What a scheme starts whole, in the order of the draws: fields of `Scheme` and `Layout`."""


@dataclass(frozen=True, slots=True)
class Initialised(Sequence[Site]):
    """The sites that a scheme started, in forward order, what else it set, and how to keep what it holds."""

    scheme: Scheme
    layout: Layout
    num_set: int
    """Of the layout's sites; all of them, or nothing was changed."""
    closed: tuple[str, ...]
    """Tensors that end a branch without a gate, set to zero because the scheme closes all branches."""
    model: nn.Module = field(repr=False)

    @overload
    def __getitem__(self, index: int) -> Site: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Site]: ...
    def __getitem__(self, index: int | slice) -> Site | Sequence[Site]:
        return self.layout.sites[index]

    def __len__(self) -> int:
        return len(self.layout.sites)

    def __str__(self) -> str:
        layout = self.layout
        head = f", and {' and '.join(layout.head)}" if layout.head else ", no known last projection"
        whole = {words: len(getattr(layout, what)) for what, words in _WORDS.items() if getattr(self.scheme, what)}
        started = "".join(f"; started {words} ({count} tensors)" for words, count in whole.items())
        also = (
            f"; closed the branches without a gate ({len(self.closed)} tensors, {self.closed[0]}, ...)"
            if self.closed
            else ""
        )
        replayed = f"the update order of {self.scheme.order_of}" if self.scheme.order_of else ""
        held = " and ".join(["rows"] * bool(held_by(self, self.scheme)) + [replayed] * bool(replayed))
        keep = f"; the scheme holds {held}: started.hold(optimizer) keeps it, nothing else does" if held else ""
        sites = f"{self.num_set} of {len(self)} sites of {layout.family_name}"
        return f"{self.scheme.name} started {sites}{head}{started}{also}{keep}"

    def hold(self, optimizer: torch.optim.Optimizer, order: Order | None = None, *, own_age: bool = False) -> None:
        """Keep what the scheme holds where it started, in every step of this optimiser (adaln, adaln-mix, `opens`).

        Before each step the gradients of held rows become zero, and the step is counted in the optimiser's groups, so
        that a resumed one goes on; a scheme that holds nothing leaves the optimiser as it is. Weight decay of a group
        that holds rows is a `ValueError`. Of several optimisers each is told. A norm to which gradients are clipped
        before the step counts those of held rows. `order`, for a scheme that replays another's: that of `order`.
        `own_age`: to rows that open late Adam takes the steps of fresh ones, its averages corrected by their own age.
        """
        if self.scheme.order_of and order is None:
            raise ValueError(
                f"scheme {self.scheme.name!r} replays the update order of {self.scheme.order_of!r}, which a loss"
                " measures; expected started.hold(optimizer, started.order(loss))"
            )
        if order := held_by(self, self.scheme) if order is None else order:
            Hold(order, self.model, own_age).register(optimizer)

    def order(self, loss: Loss, seed: int = 0) -> Order:
        """All that the scheme holds, and until when, with the order that it replays: three iterations on a copy.

        `loss(model, iteration)` is the scalar loss of a batch. The network itself stays as it is; one that is sharded
        over processes has no copy (`ValueError`), so that its order is measured before.
        """
        from adaln.conditioning.update_order import order_to_hold  # which starts its copy by `initialise`

        if sharded := [name for name, tensor in self.model.named_parameters() if is_sharded(tensor)]:
            raise ValueError(f"{sharded[0]!r} is sharded; expected started.order(loss) before the network is")
        return order_to_hold(self.model, self.scheme, loss, seed, self.layout.family)


def initialise(
    model: nn.Module,
    scheme: str | Path | Scheme = "adaln-gaussian",
    seed: int | torch.Generator = 0,
    *,
    family: str | Family | None = None,
) -> Initialised:
    """Start the conditioning of any diffusion transformer, yours or a library's, as a scheme says, in place.

    `scheme` is a name, `name:std[,std,...]`, a .json or .toml file, or a `Scheme`; modulation layers and the last
    projection change, all else stays (unless the scheme names it; where one closes every branch and a branch has no
    gate, its last matrix becomes zero). Returns the sites, in forward order; printed, it says what was set. Rows that a
    scheme holds (adaln, adaln-mix, `opens`) need `started.hold(optimizer)` in a loop of your own. With the seed of a
    run, the start is that run's; a generator is drawn from as it is. `family` (a name, a layout file) decides between
    families of the same names. Of sharded parameters (FSDP2, any DTensor) each process writes its part.
    Raises `ValueError` in one line, before anything is changed, for an unknown scheme or network, one with no place for
    what the scheme says, and where the network would not compute with what is written (quantised, parametrised, tied).

    >>> from torch import nn
    >>> import adaln
    >>> blocks = [nn.ModuleDict({"adaLN_modulation": nn.Sequential(nn.SiLU(), nn.Linear(8, 48))}) for _ in range(2)]
    >>> net = nn.ModuleDict({"blocks": nn.ModuleList(blocks)})
    >>> print(adaln.initialise(net, "adaln-zero"))
    adaln-zero started 12 of 12 sites of DiT, no known last projection
    """
    scheme = scheme_of(scheme)
    rng = stream_of(seed)
    tensors = check_kept(model)
    made = made_of(tensors)
    with naming_ties(model):
        layout = find_layout_to_start(with_made(tensors_of(model), made), class_name_in(model), family)
    starts = all_starts(layout, scheme)
    names = list(dict.fromkeys(name for name, _, _ in starts))
    check_used(model, names, made)
    check_written(tensors, names)
    check_range(tensors, starts)
    for name, rows, distribution in starts:
        _draw(tensors[name], rows, distribution, rng, whole_of(name, tensors))
    started = {(name, rows.start) for name, rows, _ in starts}
    num_set = sum(all((name, site.rows.start) in started for name in site.tensors()) for site in layout.sites)
    return Initialised(scheme, layout, num_set, tuple(layout.ungated_ends) if scheme.closes else (), model)


def _draw(tensor: Tensor, rows: slice, distribution: Distribution, rng: torch.Generator, whole: Sequence[int]) -> None:
    """Fill rows of a tensor from a distribution; the draws are those of one process, each writes its part of them."""
    shape = tensor.shape[rows_axis(tensor.shape) :]
    first, last, _ = rows.indices(shape[0])
    drawn = torch.empty((last - first, *shape[1:]), dtype=tensor.dtype)
    distribution.fill_(drawn, rng, whole)
    fill_part(tensor, first, last, drawn)


def find_layout_to_start(tensors: Mapping[str, Tensor], class_name: str, family: str | Family | None) -> Layout:
    """`find_layout`; where it knows no modulation and tensors are packed, these are named."""
    packed = [name for name, tensor in tensors.items() if own(tensor).itemsize < 2]
    try:
        layout = find_layout(tensors, family, class_name=class_name)
    except UnknownLayout:
        check_written(tensors, packed)
        raise
    if not layout.sites:
        check_written(tensors, packed)
    return layout


def all_starts(layout: Layout, scheme: Scheme) -> list[tuple[str, slice, Distribution]]:
    """Tensor, rows and start of all that a scheme says of a network, in the order of the draws; `ValueError` as
    `initialise`."""
    check_is_startable(layout, scheme)
    if scheme.order_of:
        check_is_startable(layout, SCHEMES[scheme.order_of])
    if not layout.head and scheme.head not in (Start(), Start(Default(), Default())):
        raise ValueError(
            f"scheme {scheme.name!r} starts the last projection, and of {layout.family_name} none is known; expected a"
            ' layout that names it (head = "NAME"), or another scheme'
        )
    whole = slice(None)
    starts = list(starts_of(scheme, layout.sites))
    for name in layout.head:
        starts.append((name, whole, scheme.head.weight if name.endswith("weight") else scheme.head.bias))
    for what in _WORDS:
        if distribution := getattr(scheme, what):
            names: list[str] = getattr(layout, what)
            if not names:
                raise ValueError(
                    f"scheme {scheme.name!r} starts {_WORDS[what]}, and of {layout.family_name} none are known;"
                    " expected a network of our own, or a layout that names them (--layout)"
                )
            if isinstance(distribution, PerBranch):
                distribution = replace(distribution, num_branches=len(names))
            starts += [(name, whole, distribution) for name in names]
    if scheme.closes:
        starts += [(name, whole, ZERO) for name in layout.ungated_ends]
    return starts


def check_is_startable(layout: Layout, scheme: Scheme) -> None:
    """`ValueError` for a network in which no rows can be started, or whose value functions break the promise."""
    if layout.family.generated_by:
        raise ValueError(
            f"in {layout.family_name} one network, {layout.family.generated_by!r}, makes every role: no rows of any"
            " tensor are one role's, and nothing can be started by rows"
        )
    if not layout.sites:
        what = f"{layout.family_name} has no modulation" if layout.family_name else "no modulation among these tensors"
        raise UnknownLayout(f"{what}; expected a network with gates, scales or shifts (adaln families lists them)")
    if scheme.needs and scheme.needs not in {*mechanisms(layout.sites), *["static gates"] * bool(layout.static_gates)}:
        raise ValueError(
            f"scheme {scheme.name!r} is a start of {scheme.needs}, and {layout.family_name} has none; expected a"
            f" network with {scheme.needs}, or another scheme"
        )
    for site in layout.sites:
        neutral = float(effect(site.role, site.function)(torch.zeros(())))
        if site.role is Role.GATE and scheme.closes and neutral:
            raise ValueError(
                f"scheme {scheme.name!r} closes every branch, and {layout.family_name}'s gates are {site.function} of"
                f" their value: {neutral:.3g} at zero, closed nowhere; expected open gates, as of adaln-gaussian"
            )
        held = scheme.at(site) if site.role is Role.GATE else None
        if held and held.weight == ZERO and isinstance(held.bias, Constant) and (value := held.bias.value):
            given = float(effect(site.role, site.function)(torch.tensor(value)))
            if given != value and not (scheme.needs and site.function in scheme.needs):
                raise ValueError(
                    f"scheme {scheme.name!r} sets gates to {value:g}, and {layout.family_name}'s are {site.function} of"
                    f" their value, {given:.3g} of it; expected a scheme that sets no gate to a number (adaln-gaussian)"
                )
        if site.role is Role.SCALE and not neutral:
            raise ValueError(
                f"{layout.family_name} scales by the value itself ({site.tensors()[0]!r}), and schemes start scales"
                " around zero, which would silence what enters the branch; expected a network that scales by 1 + value"
            )


def mechanisms(sites: Sequence[Site]) -> list[Mechanism]:
    """What rows show of what schemes may need."""
    gates = {site.function for site in sites if site.role is Role.GATE}
    static = static_tensors(sites)
    tables = any(site.weight is None and site.branch != "final" and site.bias not in static for site in sites)
    names: dict[Mechanism, bool] = {"tables": tables, "sigmoid gates": gates == {"sigmoid"}}
    return [name for name, is_there in names.items() if is_there]


def starts_of(scheme: Scheme, sites: Sequence[Site]) -> Iterator[tuple[str, slice, Distribution]]:
    """Tensor, rows and start of all that a scheme says of these sites, in the order of the draws.

    Raises `ValueError` where a block-wise scheme does not fit.
    """
    check_fits(scheme, sites)
    tabled = {(site.branch, site.role) for site in sites if site.weight is None}  # these carry the bias of every block
    for site in sites:
        start = scheme.at(site)
        if site.weight:
            yield site.weight, site.rows, start.weight
        if site.bias:
            branches = site.branch.split("+") if site.weight and site.branch != "final" else ()
            in_tables = any((branch, site.role) in tabled for branch in branches)
            yield site.bias, site.rows, ZERO if in_tables else start.bias


def check_fits(scheme: Scheme, sites: Sequence[Site]) -> None:
    """`ValueError` where a network has no place for what the scheme says.

    Starts block by block for another depth or blocks that share their matrix, a bias other than zero for layers
    without (torch's default of it is none), a final shift where none is.
    """
    blocks = {site.depth for site in sites if site.branch != "final" and site.is_of_one_block}
    shared = next((site for site in sites if site.branch != "final" and not site.is_of_one_block), None)
    for role in ("gate", "scale", "shift"):
        starts = getattr(scheme, role)
        if isinstance(starts, tuple) and shared:
            raise ValueError(
                f"scheme {scheme.name!r} starts the {role} of {len(starts)} blocks one by one, and all blocks share"
                f" {shared.weight!r}; expected a scheme with one start for all blocks"
            )
        if isinstance(starts, tuple) and len(starts) != len(blocks):
            raise ValueError(
                f"scheme {scheme.name!r} starts the {role} of {len(starts)} blocks one by one, the model has"
                f" {len(blocks)} (a polynomial explodes outside its range: fit a start from a pilot run of this model)"
            )
    static = static_tensors(sites)
    for site in sites:
        if site.bias in static and scheme.static_gates is None and scheme.at(site).weight != ZERO:
            raise ValueError(
                f"scheme {scheme.name!r} starts the {site.role.name.lower()} by its matrix, and {site.bias!r} has none:"
                " it is static; expected a scheme that sets it to a number (adaln-zero, adaln, layerscale)"
            )
    biased = {(branch, site.role) for site in sites if site.bias for branch in site.branch.split("+")}
    for site in sites:
        has_bias = biased.issuperset((branch, site.role) for branch in site.branch.split("+"))
        if not has_bias and not isinstance(scheme.at(site).bias, Default) and scheme.at(site).bias != ZERO:
            raise ValueError(
                f"scheme {scheme.name!r} starts the {site.role.name.lower()} by its bias, {site.weight!r} has none"
            )
    shifted = any(site.branch == "final" and site.role is Role.SHIFT and site.weight for site in sites)
    if scheme.final_shift.weight != ZERO and scheme.final_shift.bias == ZERO and not shifted:
        raise ValueError(f"scheme {scheme.name!r} starts the final shift, the model has no matrix for it")
