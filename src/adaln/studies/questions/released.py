"""How every known family starts, and what the nearest scheme does in the first 100 steps on one network."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any, NamedTuple

from adaln.analysis import UpdateOrder
from adaln.analysis.role_updates import updates_by_role
from adaln.conditioning import FAMILIES, SCHEMES, Scheme, Start
from adaln.conditioning.distributions import Default
from adaln.report import Cell, Column, Measurement, Section, Table
from adaln.statistics import Difference, paired_differences, t_interval
from adaln.studies.questions.starts import with_head
from adaln.studies.rows import change_cells, final_loss, over_seeds, paired, plain_difference, study_result
from adaln.studies.study import Outcome, Result, Setting, Study
from adaln.views.families import family_facts
from adaln.views.orders import derived_and_measured, subject_of_run

TITLE = "What do the starts of releases do in the first 100 steps?"
STEPS = 100
REFERENCE = "adaln-zero"
HEAD_AS_TORCH = with_head("torch", Start(Default(), Default()))
_OF_ANY = ("torch-default", "final-zero", "xavier-all", "dit-mup", "default", "gpt2-residual")
OPTIONS: Mapping[str, Mapping[str, Any]] = {
    **{name: {} for name in (REFERENCE, HEAD_AS_TORCH.name, *_OF_ANY)},
    **{name: {"modulation": "shared"} for name in ("table-normal", "table-zero")},
    "af3": {"gate": "sigmoid"},
    **{name: {"gate": "static"} for name in ("rezero", "layerscale")},
}
"""By scheme the options of the network that has a place for it."""
NEAREST = {
    "tables zero": "table-zero",
    "tables N(0, 1/D)": "table-normal",
    "with tables, N(0, 1/D)": "table-normal",
    "head as torch": HEAD_AS_TORCH.name,
    "zero": REFERENCE,
    "": "torch-default",
}
"""Words of how a family starts, the first that are in it, and the scheme; "" is torch's own."""


class First(NamedTuple):
    """The first steps of one row, over seeds."""

    losses: Sequence[float]
    """Before the first update."""
    ends: Sequence[float]
    """Mean over the last tenth of the steps."""
    order: UpdateOrder
    ratios: Mapping[str, float | None]
    """By role, norm of all that the steps changed over the norm of the start; None where that is zero."""


def nearest_scheme(start: str) -> str:
    """The row that is nearest to how a family starts, in the words of its row; "" is torch's own.

    >>> nearest_scheme(""), nearest_scheme("zero in the blocks"), nearest_scheme("tables zero, alike for all blocks")
    ('torch-default', 'adaln-zero', 'table-zero')
    """
    return next(scheme for words, scheme in NEAREST.items() if words in start)


def first_steps(runs: Sequence[Outcome]) -> First:
    """What became of one row; order and ratios are of its first seed."""
    subjects = [subject_of_run(outcome.run) for outcome in runs]
    losses = [float(one.loss(one.model, 0).detach()) for one in subjects]
    start, end = dict(subjects[0].model.named_parameters()), runs[0].weights()
    ratios = {role: numbers[0] for role, numbers in updates_by_role(start, {name: end[name] for name in start}).items()}
    order = subjects[0].order(runs[0].run.config.scheme)
    return First(losses, [final_loss(outcome) for outcome in runs], order, ratios)


def reduce(outcomes: Sequence[Outcome]) -> Result:
    """Losses, what moved and how far by scheme, then the same by family."""
    by_scheme = paired(outcomes, REFERENCE)
    firsts = {name: first_steps(runs) for name, runs in by_scheme.items()}
    changes = paired_differences({name: first.ends for name, first in firsts.items()}, REFERENCE)
    config = by_scheme[REFERENCE][0].job.config
    table = loss_table(firsts, changes, config.steps)
    sections = [
        Section("Result", [table, ratio_table(firsts, config.steps, config.optim.lr)]),
        Section("Families", [family_table(firsts, config.steps)]),
        derived_and_measured({name: first.order for name, first in firsts.items()}, outcomes[0].job.config.model),
    ]
    numbers = {
        "rows": {
            name: {"first_loss": over_seeds(first.losses), "loss": over_seeds(first.ends), "ratios": first.ratios}
            for name, first in firsts.items()
        },
        "changes": {name: plain_difference(change) for name, change in changes.items()},
        "families": {name: nearest_scheme(family.start) for name, family in started_families().items()},
        "first_moves_at_iteration": {name: first.order.first for name, first in firsts.items()},
    }
    return study_result(TITLE, verdict(firsts, changes, config.steps), table, sections, by_scheme, numbers)


def started_families() -> dict[str, Any]:
    """Those that have modulation in their blocks, by name."""
    return {name: family for name, family in FAMILIES.items() if family_facts(name, family)["start"]}


def verdict(firsts: Mapping[str, First], changes: Mapping[str, Difference], steps: int) -> list[str]:
    """Where the first losses lie, and which starts are told apart from adaLN-Zero at the end."""
    means = {name: fmean(first.losses) for name, first in firsts.items()}
    low, high = (choose(means, key=means.__getitem__) for choose in (min, max))
    told = {name: change for name, change in changes.items() if change.distinguishable}
    clear = [f"{name} {change.verdict} ({change.absolute.value:+.3f})" for name, change in told.items()]
    counts = [nearest_scheme(family.start) for family in started_families().values()]
    common = ", ".join(f"{name} {counts.count(name)}" for name in OPTIONS if name in counts)
    return [
        f"Of {len(counts)} families the nearest schemes are: {common}.",
        f"The first loss lies between {means[low]:.3f} ({low}) and {means[high]:.3f} ({high}).",
        f"After {steps} steps, by loss against {REFERENCE}: {'; '.join(clear) or 'none told apart'}.",
    ]


def loss_table(firsts: Mapping[str, First], changes: Mapping[str, Difference], steps: int) -> Table:
    """A row for each scheme."""
    columns = [
        Column("scheme"),
        Column("note"),
        Column("first loss", format=".3f"),
        Column(f"loss at {steps}", "last tenth", ".3f"),
        Column("change", f"against {REFERENCE}", "+.3f"),
        Column("verdict"),
    ]
    rows: list[list[Cell]] = []
    for name, first in firsts.items():
        cells = [Measurement.of(t_interval(values)) for values in (first.losses, first.ends)]
        rows.append([name, scheme_of(name).note, *cells, *change_cells(changes.get(name))])
    seeds = len(firsts[REFERENCE].losses)
    notes = [
        f"Mean over {seeds} seeds with 95 % t intervals; changes paired, intervals and verdicts for all"
        f" {len(changes)} together. Schemes of tables, sigmoid and static gates are those of networks that have them."
    ]
    return Table(TITLE, columns, rows, notes)


def ratio_table(firsts: Mapping[str, First], steps: int, lr: float) -> Table:
    """How far every role went, against where it began."""
    roles = list(dict.fromkeys(role for first in firsts.values() for role in first.ratios))
    columns = [Column("scheme"), *(Column(role, format=".3g") for role in roles)]
    rows: list[list[Cell]] = [[name, *(first.ratios.get(role) for role in roles)] for name, first in firsts.items()]
    notes = [f"Norm of w - w_0 over that of w_0, first seed, learning rate {lr:g}; –: from zero, or no such weights."]
    return Table(f"How far {steps} steps take every role", columns, rows, notes)


def family_table(firsts: Mapping[str, First], steps: int) -> Table:
    """Every family beside the scheme that is nearest to its start."""
    columns = [Column("family"), Column("its start"), Column("nearest scheme"), Column("first loss", format=".3f")]
    columns += [Column(f"loss at {steps}", format=".3f"), Column("gates move", "at iteration")]
    rows: list[list[Cell]] = []
    for name, family in started_families().items():
        scheme = nearest_scheme(family.start)
        first = firsts[scheme]
        facts = family_facts(name, family)
        gates = first.order.first.get("W_a1") if facts["gate"] else None
        rows.append([name, facts["start"], scheme, fmean(first.losses), fmean(first.ends), gates])
    notes = ["As `adaln families` has them. Numbers are those of the scheme on our network, not of the family's own."]
    return Table("Families and what their starts do", columns, rows, notes)


def scheme_of(name: str) -> Scheme:
    """Of a row."""
    return HEAD_AS_TORCH if name == HEAD_AS_TORCH.name else SCHEMES[name]


RELEASED = Study(
    "released",
    TITLE,
    tuple(
        Setting(name, scheme_of(name), options=options, steps=STEPS, is_scored=False)
        for name, options in OPTIONS.items()
    ),
    reduce,
    seeds=8,
)
