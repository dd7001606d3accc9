"""An audit of anyone's diffusion transformer: where its conditioning lives, how it was started, what fools people.

`audit` reads weights, from memory or a file, fresh or trained. A network it runs as well: how much each gate lets
through, and whether rows do what the layout says. Nothing is changed. All results are plain data for JSON.

>>> import torch
>>> from adaln.models import MODELS, build
>>> from adaln.rng import generator
>>> from adaln.specs import DataSpec
>>> result = audit(build(MODELS["tiny"], DataSpec(1, 8, 8, 10), generator("example")))
>>> result.family, result.start.name, result.start.is_start
('DiT', 'adaln-zero', True)
>>> [energy.ratio for energy in result.energies[:2]]
[0.0, 0.0]
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from math import exp, isfinite
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn

from adaln.analysis.distributions import sketches
from adaln.analysis.findings import Facts, Finding, findings
from adaln.analysis.groups import (
    Group,
    GroupedRows,
    Weights,
    by_role,
    class_of,
    fetched,
    read_rows,
    role_name,
    run_of,
    weights_of,
)
from adaln.analysis.live import BranchEnergy, observe
from adaln.analysis.precision import STORED_TYPES, PrecisionRow, precision_rows, precision_table
from adaln.analysis.sketch import Moments, Sketch, moments
from adaln.analysis.starts import Key, NearestStart, distances, known_starts, nearest_start
from adaln.conditioning import FAMILIES, Family, Layout, Site, UnknownLayout, find_layout, standard_inputs
from adaln.report import Column, Marked, Shown, Table
from adaln.tensor_files import WeightSet, shapes
from adaln.types import as_rows


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
class Audit(Shown):
    """All that an audit found; printed, or the last line of a notebook's cell, it shows its tables."""

    family: str
    num_blocks: int
    start: NearestStart | None
    """Of all modulation layers together; None where there are none."""
    rows: tuple[AuditRow, ...]
    head: Moments | None
    """Of the last projection."""
    findings: tuple[Finding, ...]
    energies: tuple[BranchEnergy, ...] = ()
    """Of a live network, as it is now: at step 0 if it is fresh."""
    precision: tuple[PrecisionRow, ...] = ()
    """What stored types do to each role, where that was asked for."""

    def blocks(self) -> list[str | Table]:
        """The start in a sentence, what was read, the pitfalls, role by block, and the energies of the branches."""
        if self.start is None:
            answer, *others = sorted(self.findings, key=lambda finding: finding.kind != "no modulation")
            return [answer.text, *(f"{f.level}: {f.text}" for f in others)]
        nearest = f"(nearest: {self.start.name}, off by a factor of {exp(self.start.distance):.3g} in std)"
        trained = f"at no known start, so trained or started otherwise {nearest}"
        modulation = f"as {self.start.name} starts it" if self.start.is_start else trained
        summary = f"{self.family} layout, {self.num_blocks} blocks, modulation {modulation}"
        energies = [_energy_table(self.energies)] if self.energies else []
        precision = [precision_table(self.precision)] if self.precision else []
        lines = [f"{f.level}: {f.text}" for f in sorted(self.findings, key=lambda finding: finding.kind != "file")]
        return [summary, *lines, _role_table(self.rows), *energies, *precision]


def audit(
    source: Weights,
    inputs: Mapping[str, Any] | None = None,
    family: str | Family | None = None,
    *,
    step: int | None = None,
    weights: WeightSet | None = None,
    prefix: str = "",
    allow_unread: bool = False,
    precision: Sequence[str] = (),
) -> Audit:
    """Where the conditioning of anyone's network is, how it was started, and what fools people about it.

    `source` is a network, tensors by name, a run, or the path of one, of a file or of a diffusers folder, or a name on
    the hub (`hf:ORG/NAME`). A network, so that of a run, is run a few times with `inputs`, keyword arguments of its
    forward pass (default: `standard_inputs`), for what each branch adds to the residual stream and what the rows of
    every site do; without inputs, where there are no standard ones or it fails with them, its weights alone are
    audited, which a finding says. Tensors and files are read only. Of a run, the averaged weights (or the `weights`
    "model") of the checkpoint at `step`, by default the newest; 0: the start. Of several networks in one file the one
    under `prefix`. `family` (a name, a layout file) decides between two families of the same names. With `allow_unread`
    what may be modulation and is in no layout is a finding, else an error. `precision`: types to store the weights in,
    of `STORED_TYPES`, and what each would lose, by role.

    Raises `ValueError` in one line for a network of no known family, and for what is missing or damaged on disk.

    >>> from adaln.conditioning import initialise
    >>> from adaln.models import MODELS, build
    >>> from adaln.rng import generator
    >>> from adaln.specs import DataSpec
    >>> network = build(MODELS["tiny"], DataSpec(1, 8, 8, 10), generator("example"))
    >>> _ = initialise(network, "adaln-zero")
    >>> found = audit(network)
    >>> found.family, found.num_blocks, found.start.name
    ('DiT', 4, 'adaln-zero')
    """
    types = {name: STORED_TYPES[name] for name in precision}
    notes: tuple[str, ...] = ()
    source = fetched(source)
    if run := run_of(source):
        if step == 0 or (step is None and not run.steps_saved()):
            source = run.new_model()
        else:
            source, read = run.load_model(step, weights or "ema")
            notes = (f"read the raw weights of step {read}; the run also holds averaged ones",) * (weights == "model")
    elif step is not None:
        raise ValueError(f"step is {step}; expected none: only a run has steps")
    if isinstance(source, nn.Module):
        report = _audit_network(source, inputs, find_layout(source, family, allow_unread=allow_unread), types)
        return _with_notes(report, notes)
    tensors, notes = weights_of(source, weights=weights, prefix=prefix)
    class_name = class_of(source)
    layout = find_layout(shapes(tensors), family, class_name=class_name, allow_unread=allow_unread)
    report = _report(_facts(tensors, layout, types))
    if (others := families_of(class_name)) and layout.family_name not in others:
        text = f"config.json says {class_name}, which {' and '.join(others)} describe{'s' * (len(others) == 1)}"
        notes = (*notes, f"{text}; by the names and shapes of its weights it is {layout.family_name or 'none of them'}")
    return _with_notes(report, notes)


def _with_notes(report: Audit, notes: Sequence[str]) -> Audit:
    """The audit with what must be known of the weights that were read."""
    return replace(report, findings=(*report.findings, *(Finding("note", "file", text) for text in notes)))


def families_of(class_name: str) -> list[str]:
    """The families that describe a class; none for one that is not known."""
    return [name for name, family in FAMILIES.items() if class_name in family.class_names]


def _audit_network(
    model: nn.Module, inputs: Mapping[str, Any] | None, layout: Layout, types: Mapping[str, torch.dtype]
) -> Audit:
    facts = _facts(dict(model.named_parameters()), layout, types)
    if facts.not_finite or layout.family.generated_by:  # nothing could be seen
        return _report(facts)
    try:
        observed = observe(model, standard_inputs(model) if inputs is None else inputs, layout)
    except Exception as error:  # whatever the network's own code raises
        why = " ".join(str(error).split())
        if inputs is not None or not isinstance(error, ValueError):  # else that it has no standard inputs
            why = f"running {type(model).__name__} raised {type(error).__name__}: {why}"
        if inputs is not None:
            raise ValueError(why) from error
        return _report(replace(facts, not_run=why))
    if observed.strangers and not layout.sites:
        raise UnknownLayout(
            f"by what they do, {', '.join(observed.strangers[:3])} shift, scale or gate the tokens of"
            f" {type(model).__name__}, and no layout knows them; ways on: --discover, then --layout FILE"
        )
    return replace(_report(replace(facts, observed=observed)), energies=observed.energies)


def _facts(tensors: Mapping[str, Tensor], layout: Layout, types: Mapping[str, torch.dtype]) -> Facts:
    known = shapes(tensors)
    sites, head = layout.sites, layout.head

    def rows(_: Mapping[str, Tensor]) -> Iterator[GroupedRows]:
        for site in sites:
            for name in site.tensors():
                yield GroupedRows(name, site.rows, (Group(name, depth=site.rows.start),))
        for name in head:
            yield GroupedRows(name, slice(0, known[name].shape[0]), (Group("head"),))

    values = sketches(tensors, rows)
    groups = {(group.name, group.depth): sketch for group, sketch in values.items() if group.depth is not None}
    to_starts = distances(groups, known_starts(sites, known))
    return Facts(
        layout=layout,
        shapes=known,
        groups=groups,
        head=values.get(Group("head")),
        distances=to_starts,
        start=nearest_start(groups, to_starts),
        not_finite=tuple(_not_finite(tensors, groups)),
        precision=tuple(precision_rows(tensors, sites, types, head)),
    )


def _not_finite(tensors: Mapping[str, Tensor], groups: Mapping[Key, Sketch]) -> list[str]:
    """Tensors that hold NaN or infinities: the sketches of their rows tell, and the extremes of all others."""
    known, read = shapes(tensors), {name for name, _ in groups}
    strays = {name for (name, _), values in groups.items() if values.nans + values.infs}
    others = [name for name, t in known.items() if name not in read and t.is_floating_point() and t.numel()]
    rows = (GroupedRows(name, slice(None), ()) for name in others)
    strays |= {grouped.tensor for grouped, has_strays in read_rows(tensors, rows, _has_strays) if has_strays}
    return [name for name in known if name in strays]


def _has_strays(chunks: Iterable[Tensor]) -> bool:
    return not all(isfinite(float(extreme)) for chunk in chunks for extreme in torch.aminmax(chunk))


def _report(facts: Facts) -> Audit:
    head = moments(facts.head) if facts.head else None
    layout = facts.layout
    start = facts.start if layout.sites else None
    rows, noticed = tuple(_rows(facts)), tuple(findings(facts))
    return Audit(layout.family_name, layout.num_blocks, start, rows, head, noticed, precision=facts.precision)


def _rows(facts: Facts) -> Iterator[AuditRow]:
    """Role by role; of each role all blocks together, then one by one in forward order."""
    for role, group in groupby(by_role(facts.sites), key=role_name):
        blocks = [list(block) for _, block in groupby(group, key=attrgetter("depth"))]
        if len(blocks) > 1:
            yield _row(role, None, None, [site for block in blocks for site in block], facts)
        for block in blocks:
            yield _row(role, block[0].block, block[0].depth, block, facts)


def _row(role: str, block: str | None, depth: int | None, sites: Sequence[Site], facts: Facts) -> AuditRow:
    main: list[Key] = [(site.tensors()[0], site.rows.start) for site in sites]
    biases: list[Key] = [(site.bias, site.rows.start) for site in sites if site.weight and site.bias]
    num_rows = sum(site.rows.stop - site.rows.start for site in sites)
    known = {facts.start.name: facts.distances[facts.start.name], **facts.distances}  # the first one wins a tie
    return AuditRow(
        role,
        block,
        depth,
        (num_rows, *as_rows(facts.shapes[sites[0].tensors()[0]]).shape[1:]),
        moments(sum((facts.groups[key] for key in main), Sketch())),
        moments(sum((facts.groups[key] for key in biases), Sketch())) if biases else None,
        nearest_start({key: facts.groups[key] for key in (*main, *biases)}, known),
    )


def _role_table(rows: Sequence[AuditRow]) -> Table:
    columns = [
        Column("role"),
        Column("block"),
        Column("shape"),
        Column("mean", format=".1e", spare=2),
        Column("std", format=".3g"),
        Column("zeros", "%", ".3g", spare=1),
        Column("kurtosis", format=".2f"),
        Column("start"),
    ]
    notes = [
        "zeros: exact ones; kurtosis: 0 for a Gaussian; start: the known start that has this spread and share of zeros,"
        " biases included; trained: none has."
    ]
    return Table("Role by block", columns, [_cells(row) for row in rows], notes)


def _cells(row: AuditRow) -> list[Any]:
    values = row.moments
    strays = values.nans + values.infs
    shape = "x".join(map(str, row.shape))
    return [
        row.role,
        row.block or "all",
        Marked(f"{shape}, {strays} not finite", "warning") if strays else shape,
        values.mean,
        values.std,
        100 * values.zero_share,
        values.excess_kurtosis,
        row.nearest.name if row.nearest.is_start else "trained",
    ]


def _energy_table(energies: Sequence[BranchEnergy]) -> Table:
    columns = [
        Column("block"),
        Column("branch"),
        Column("through the gate", "|gate F| / |x|", ".3g"),
        Column("gate at 1", "|F| / |x|", ".3g"),
    ]
    rows = [[energy.block, energy.branch, energy.ratio, energy.open_ratio] for energy in energies]
    note = "One batch of noise at times over the whole schedule; x is what enters the block."
    return Table("What each branch adds to the residual stream", columns, rows, [note])
