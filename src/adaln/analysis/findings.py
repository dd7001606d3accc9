"""What fools people about a network's conditioning, each as one function from facts to sentences."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import Literal

from torch import Tensor

from adaln.analysis.live import Observed
from adaln.analysis.precision import LOST_ALARM, ZEROED_ALARM, PrecisionRow
from adaln.analysis.sketch import Sketch
from adaln.analysis.starts import LIBRARY_DEFAULT, Distances, Key, NearestStart
from adaln.conditioning import Layout, Role, Site
from adaln.tensor_files.opening import ADAPTED

Level = Literal["warning", "note"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to know, in words."""

    level: Level
    """warning: look here. note: so that nobody is surprised."""
    kind: str
    """Which finder said it, for machines: "unzeroed", "closed gate", ..."""
    text: str


@dataclass(frozen=True, slots=True, eq=False)
class Facts:
    """All that has been read of a network."""

    layout: Layout
    shapes: Mapping[str, Tensor]
    groups: Mapping[Key, Sketch]
    """The values of each site's rows in each of its tensors."""
    head: Sketch | None
    distances: Distances
    start: NearestStart
    not_finite: tuple[str, ...]
    """Tensors with NaN or infinities."""
    observed: Observed | None = None
    """What forward passes have shown, where the network was run."""
    not_run: str = ""
    """Why a network in memory was not run."""
    precision: tuple[PrecisionRow, ...] = ()
    """What stored types do to each role, where that was asked for."""

    @property
    def sites(self) -> tuple[Site, ...]:
        """In forward order."""
        return self.layout.sites

    def gates(self) -> list[Site]:
        """All gates, a shared modulation's and its tables' too."""
        return [site for site in self.sites if site.role is Role.GATE]

    def is_zero(self, site: Site) -> bool:
        """Whether all rows of a site are exactly zero, bias included."""
        return all(_is_zero(self.groups[name, site.rows.start]) for name in site.tensors())


def findings(facts: Facts) -> list[Finding]:
    """Warnings first."""
    results = [finding for finder in FINDERS for finding in finder(facts)]
    return sorted(results, key=lambda finding: finding.level != "warning")


def no_modulation(facts: Facts) -> Iterator[Finding]:
    """No rows of any role, which is an answer and no error."""
    name, generator = facts.layout.family_name, facts.layout.family.generated_by
    if facts.sites:
        return
    if generator:
        text = f"{name}: one network, {generator}, makes every role of every block; no rows of any are one role's"
    elif name:
        text = f"{name}: no modulation. {facts.layout.family.surprise}".rstrip()
    else:
        text = f"no modulation: by name and shape none of the {len(facts.shapes)} tensors may be gate, scale or shift"
    yield Finding("note", "no modulation", text)


def unread(facts: Facts) -> Iterator[Finding]:
    """What may be modulation and is in no layout."""
    if names := facts.layout.unread:
        yield Finding("warning", "not read", f"not read, though it may be modulation: {_some(names)}")


def strangers(facts: Facts) -> Iterator[Finding]:
    """What modulates by its behaviour and is in no layout."""
    if facts.observed and (names := facts.observed.strangers):
        text = f"by what they do, {_some(names)} shift, scale or gate tokens, and are in no layout: see --discover"
        yield Finding("warning", "not read", text)


def not_run(facts: Facts) -> Iterator[Finding]:
    """A network in memory of which only the weights were looked at."""
    if facts.not_run:
        yield Finding("note", "not run", f"only its weights were audited: {facts.not_run}")


def static_gates(facts: Facts) -> Iterator[Finding]:
    """Gates that learn and that no condition moves."""
    if names := facts.layout.static_gates:
        yield Finding("note", "static gate", f"learned gates that no condition moves: {_some(names)}")


def tied(facts: Facts) -> Iterator[Finding]:
    """Layers of one kind with the same values: one tensor under several names, as files hold what is tied."""
    alike: dict[tuple[object, ...], list[str]] = {}
    for name, first in {site.tensors()[0]: site for site in facts.sites}.items():
        if (values := facts.groups[name, first.rows.start]).m2:
            key = re.sub(r"\d+", "N", name), values.count, values.mean, values.m2, values.m3, values.low
            alike.setdefault(key, []).append(name)
    for names in alike.values():
        if len(names) > 1:
            text = f"{_some(names)} hold the same values: tied, or copies, and counted as {len(names)} layers"
            yield Finding("note", "tied", text)


def adapters(facts: Facts) -> Iterator[Finding]:
    """What LoRA and its like have added to a network in memory."""
    names = [name for name in facts.shapes if ADAPTED.search(name)]
    if names and (facts.observed or facts.not_run):
        text = f"rows are read without the adapter (LoRA) that is there, branches seen with it: {_some(names)}"
        yield Finding("note", "adapter", text)


def not_finite(facts: Facts) -> Iterator[Finding]:
    """Values that are no numbers, anywhere in the network."""
    if facts.not_finite:
        yield Finding("warning", "not finite", f"NaN or infinite values in {_some(facts.not_finite)}")


def exchanged_rows(facts: Facts) -> Iterator[Finding]:
    """Rows that do something else than the layout says: scale and shift exchanged, or another chunk order."""
    kinds: dict[tuple[str, ...], tuple[Site, frozenset[tuple[Role, str]]]] = {}
    for site, effects in facts.observed.roles if facts.observed else ():
        if effects and (site.role, site.function) not in effects:
            kinds.setdefault((re.sub(r"\d+", "N", site.block), site.branch, site.role), (site, effects))
    for site, effects in kinds.values():
        does = " and ".join(f"{role.name.lower()} {function}".strip() for role, function in sorted(effects))
        rows = f"rows {site.rows.start} to {site.rows.stop - 1} of {site.tensors()[0]}"
        is_said = f"{site.role.name.lower()} {site.function}".strip()
        text = f"{rows} act as {does}; in the {facts.layout.family_name} layout they are {is_said} of {site.branch}"
        yield Finding("warning", "exchanged rows", text)


def idle_rows(facts: Facts) -> Iterator[Finding]:
    """Rows that no tokens ever met."""
    idle = [site for site, effects in (facts.observed.roles if facts.observed else ()) if not effects]
    if idle:
        names = _some(list(dict.fromkeys(site.tensors()[0] for site in idle)))
        text = f"{len(idle)} of {len(facts.sites)} chunks touched no tokens in this forward pass: {names}"
        yield Finding("note", "idle rows", text)


def unzeroed(facts: Facts) -> Iterator[Finding]:
    """What is called zero and is not: diffusers' AdaLayerNormZero and its kin leave their layer as torch does."""
    if facts.start.name == LIBRARY_DEFAULT and facts.start.is_start and facts.gates():
        gate = facts.gates()[0]
        std = facts.groups[gate.tensors()[0], gate.rows.start].std
        yield Finding(
            "warning",
            "unzeroed",
            f"the modulation starts as the library leaves it (gates with std {std:.2g}), not at zero, whatever its"
            " layers are called: adaln.initialise(model, 'adaln-zero') does",
        )


def closed_gates(facts: Facts) -> Iterator[Finding]:
    """Gates at exactly zero: how adaLN-Zero starts, but in a trained network a branch that never opened."""
    tabled = [site for site in facts.gates() if site.weight is None]
    gates = tabled or facts.gates()
    shared = facts.layout.shared
    closed = [site for site in gates if all(map(facts.is_zero, [site, *shared.get((site.branch, site.role), ())]))]
    if not closed:
        return
    if facts.start.is_start:
        ends = facts.layout.ungated_ends
        text = f": every branch with a gate begins closed{f', none has {_some(ends)}' if ends else ''}"
        if facts.observed and facts.observed.identities is not None:
            measured = facts.observed.identities
            text = ": every block begins as the identity" if measured else ", and yet blocks change what enters"
        yield Finding("note", "closed gate", f"all gates start at exactly zero{text}")
        return
    text = (
        f"{len(closed)} of {len(gates)} gates are exactly zero though other modulation rows are not at their start:"
        f" these branches never opened ({_some([f'{site.block} {site.branch}' for site in closed])})"
    )
    yield Finding("warning", "closed gate", text)


def no_gates(facts: Facts) -> Iterator[Finding]:
    """No gate at all."""
    if facts.sites and not facts.gates():
        text = (
            f"the {facts.layout.family_name} layout has no gates: every branch is added whole, from the first step on"
        )
        yield Finding("note", "no gates", text)


def scale_first(facts: Facts) -> Iterator[Finding]:
    """Last layers in the other order than DiT's."""
    last = [site for site in facts.sites if site.branch == "final"]
    if [site.role for site in last] == [Role.SCALE, Role.SHIFT]:
        text = (
            f"{last[0].tensors()[0]} holds scale before shift, DiT's last layer shift before scale: exchange the halves"
        )
        yield Finding("note", "scale first", f"{text} when weights are carried over")


def tables(facts: Facts) -> Iterator[Finding]:
    """One modulation for all blocks."""
    static = facts.layout.static_gates
    if any(site.weight is None and site.branch != "final" and site.bias not in static for site in facts.sites):
        shared = list(dict.fromkeys(site.weight or "" for sites in facts.layout.shared.values() for site in sites))
        text = f"all blocks share {_some(shared)}; what is their own are tables, biases that no condition multiplies"
        yield Finding("note", "tables", text)


def head(facts: Facts) -> Iterator[Finding]:
    """The last projection, which every scheme of the paper starts at zero."""
    if caveat := facts.layout.caveat:
        yield Finding("note", "head", caveat)
    if facts.head is None or not facts.sites:
        return
    if _is_zero(facts.head):
        text = "the last projection is exactly zero: the network predicts 0"
        trained = not facts.start.is_start
        yield Finding(
            "warning" if trained else "note", "head", text + " though its modulation is at no known start" * trained
        )
    elif facts.start.is_start:
        text = f"the last projection starts with std {facts.head.std:.2g}; every scheme of the paper starts it at zero"
        yield Finding("note", "head", text)


def stored_types(facts: Facts) -> Iterator[Finding]:
    """What not to store in a type, what not to train stored in it; else that it is fit for both."""
    for name, group in groupby(() if facts.not_finite else facts.precision, key=attrgetter("type")):
        rows = list(group)
        beyond = [row.role for row in rows if row.beyond_range]
        zeroed = {row.role: row.zeroed_share for row in rows if row.zeroed_share > ZEROED_ALARM}
        lost = {row.role: row.lost_updates[0] for row in rows if row.lost_updates[0] > LOST_ALARM}
        if beyond:
            text = f"do not store {_some(beyond)} in {name}: entries lie beyond its largest number"
            yield Finding("warning", "stored type", text)
        if zeroed:
            roles = "any role" if len(zeroed) == len(rows) else _some(list(zeroed))
            text = f"do not store {roles} in {name}: {_most(zeroed)} of the entries round to zero"
            yield Finding("warning", "stored type", text)
        if lost:
            roles = "any role" if len(lost) == len(rows) else _some(list(lost))
            text = (
                f"do not train {roles} stored in {name}, keep float32 weights: {_most(lost)} of AdamW's first updates"
            )
            yield Finding("warning", "stored type", f"{text} (lr 1e-4) change nothing")
        if not (beyond or zeroed or lost):
            text = f"{name} serves every role: at most {ZEROED_ALARM:.0%} of the entries round to zero, and at most"
            text += f" {LOST_ALARM:.0%} of AdamW's first updates (lr 1e-4) change nothing"
            yield Finding("note", "stored type", text)


def _most(shares: Mapping[str, float]) -> str:
    role = max(shares, key=lambda role: shares[role])
    return f"up to {shares[role]:.0%} ({role})"


FINDERS = (
    no_modulation,
    unread,
    strangers,
    tied,
    adapters,
    not_finite,
    exchanged_rows,
    idle_rows,
    unzeroed,
    closed_gates,
    static_gates,
    no_gates,
    scale_first,
    tables,
    head,
    not_run,
    stored_types,
)


def _is_zero(values: Sketch) -> bool:
    return values.zeros == values.count + values.nans + values.infs > 0


def _some(names: Sequence[str]) -> str:
    """The first three, and how many more."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
