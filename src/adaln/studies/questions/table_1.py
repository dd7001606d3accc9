"""Table 1: which weights move at which iteration, measured under every scheme beside what the paper derives."""

from collections.abc import Mapping, Sequence

from adaln.analysis.closed_form import BLOCK_STARTS, order_table
from adaln.analysis.paper_names import UpdateOrder
from adaln.config import model_name
from adaln.report import Cell, Column, Marked, Section, Table
from adaln.studies.rows import data_name, group, study_result
from adaln.studies.study import Outcome, Result, Setting, Study
from adaln.views.orders import LEGEND, SHORT, subject_of_run

TITLE = "Table 1: which weights move at which iteration"
DERIVED_AS = {
    "adaln": "adaln",
    "adaln-step1": "adaln-step1",
    "adaln-mix": "adaln-zero",
    "adaln-zero": "adaln-zero",
    "adaln-step1-gaussian": "adaln-step1",
    "adaln-gaussian": "adaln-gaussian",
    "adaln-gaussian-v2": "adaln-gaussian",
}
"""Scheme -> the start whose derivation is its own: an order depends on what is zero, and Mix is made to follow Zero."""


def reduce_orders(outcomes: Sequence[Outcome]) -> Result:
    """Every scheme's measured order, on the real network and its own data, held against the derived one."""
    by_scheme = group(outcomes)
    measured = {
        name: [subject_of_run(one.run).order(one.run.config.scheme) for one in runs] for name, runs in by_scheme.items()
    }
    derived = {name: order_table(BLOCK_STARTS[DERIVED_AS[name]]) for name in by_scheme}
    orders = {name: of_seeds[0] for name, of_seeds in measured.items()}
    seeds = [outcome.job.config.seed for outcome in next(iter(by_scheme.values()))]
    first = outcomes[0]
    unlike = {name: differing(of_seeds, derived[name]) for name, of_seeds in measured.items()}
    verdict = [
        lead(unlike, seeds),
        *(verdict_line(name, of_seeds, derived[name], seeds) for name, of_seeds in measured.items()),
    ]
    network = f"{model_name(first.job.config.model)} on {data_name(first)}"
    table = first_moves_table(orders, derived, network)
    numbers = {
        "seeds": seeds,
        "first_moves_at_iteration": {name: order.first for name, order in orders.items()},
        "derived": {name: order.first for name, order in derived.items()},
        "unlike_derived": unlike,
    }
    sections = [Section("Result", [table])]
    return study_result(TITLE, verdict, table, sections, by_scheme, numbers)


def differing(measured: Sequence[UpdateOrder], derived: UpdateOrder) -> list[str]:
    """The paper's names that, for any seed, do not move at the iterations derived."""
    return list(dict.fromkeys(name for order in measured for name in order.differing(derived)))


def lead(unlike: Mapping[str, Sequence[str]], seeds: Sequence[int]) -> str:
    """Whether all schemes move as derived, or which do not."""
    names = [name for name, weights in unlike.items() if weights]
    if names:
        return f"Not as derived: {', '.join(names)}; the other {len(unlike) - len(names)} schemes move as derived."
    return f"All {len(unlike)} schemes move their weights at the iterations derived, for each of {len(seeds)} seeds."


def verdict_line(scheme: str, measured: Sequence[UpdateOrder], derived: UpdateOrder, seeds: Sequence[int]) -> str:
    """Whether a scheme moves as derived, and where not."""
    unlike = differing(measured, derived)
    compared = sum(name in measured[0].names for name in derived.names)
    whose = "the paper's Table 1" if DERIVED_AS[scheme] == "adaln-zero" else "the derivation"
    if unlike:
        return f"{scheme}: not as in {whose}: {', '.join(unlike)} (of {compared} compared, {len(seeds)} seeds)."
    return f"{scheme}: all {compared} weights move at the iterations of {whose}, for each of {len(seeds)} seeds."


def first_moves_table(orders: Mapping[str, UpdateOrder], derived: Mapping[str, UpdateOrder], network: str) -> Table:
    """A row for each scheme, under it the derived one: the iteration from which each weight moves."""
    names = list(dict.fromkeys(name for order in orders.values() for name in order.names))
    rows: list[list[Cell]] = []
    for scheme, order in orders.items():
        theirs = derived[scheme].first
        unlike = order.differing(derived[scheme])
        cells = [_iteration(order.first.get(name)) for name in names]
        rows.append([scheme, *(Marked(c, "differs") if n in unlike else c for n, c in zip(names, cells, strict=True))])
        rows.append([Marked("derived", "muted"), *(Marked(_iteration(theirs.get(n)), "muted") for n in names)])
    notes = [
        f"The first iteration at which any element of these weights has a gradient that is not exactly 0. {network},"
        " with AdamW. Derived: the paper's simplified block, float64.",
        "–: does not move within 3 iterations, is held (the gate of adaln), or is not in the simplified block.",
        LEGEND,
    ]
    return Table(TITLE, [Column("scheme"), *(Column(SHORT.get(name, name)) for name in names)], rows, notes)


def _iteration(first: int | None) -> str | None:
    return None if first is None else str(first)


_SETTINGS = tuple(Setting(name, name, steps=3, is_scored=False) for name in DERIVED_AS)
TABLE_1 = Study("table1", TITLE, _SETTINGS, reduce_orders)
