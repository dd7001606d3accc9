"""How a block is conditioned: the choices of `adaln.models.mechanism` one at a time, each against DiT's own.

All rows have one width and depth, so that their operations are all but equal; in the second study MLPs are as wide as
makes their parameters equal instead. What each row holds and computes is a table. A row starts from adaLN-Zero where it
has gates that may be zero, else from the start of its own kind.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from adaln.models import DiTConfig, flops, num_parameters
from adaln.report import Cell, Column, Section, Table
from adaln.studies.compare import compare_schemes
from adaln.studies.rows import paired
from adaln.studies.study import Outcome, Result, Setting, Study

TITLE = "How should a condition act on a block?"
REFERENCE = "adaLN"


class Cost(NamedTuple):
    """What a network holds and computes."""

    mlp_width: int
    parameters: int
    flops: int
    """Of one more sample."""


class Row(NamedTuple):
    """Options of the network, and the scheme that it starts from."""

    options: Mapping[str, Any]
    scheme: str = "adaln-zero"


_STATIC = {"gate": "static"}
ROWS: Mapping[str, Row] = {
    REFERENCE: Row({}),
    "tanh gates": Row({"gate": "tanh"}),
    "sigmoid gates": Row({"gate": "sigmoid"}, "af3"),
    "static gates": Row(_STATIC, "rezero"),
    "sigmoid scales": Row({"scale": "sigmoid"}),
    "no shifts": Row({"shift": False}),
    "RMSNorm": Row({"norm": "rms"}),
    "post-modulation": Row({"post_modulation": True}),
    "SE maps": Row({"modulation": "se"}),
    "low-rank maps": Row({"modulation": "low-rank"}),
    "one map and tables": Row({"modulation": "shared"}),
    "one map": Row({"modulation": "shared-alone"}),
    "class token beside adaLN": Row({"class_tokens": 1}),
    "tokens alone": Row({**_STATIC, "modulation": "in-context", "class_tokens": 1, "time_tokens": 1}, "rezero"),
    "no time": Row({"time": "none"}),
}
"""One token each of class and time: more would be a sizeable share of a small image's."""


def reduce(title: str, outcomes: Sequence[Outcome]) -> Result:
    """The comparison, led by what every row holds and computes."""
    costs = {label: cost_of(runs[0]) for label, runs in paired(outcomes, REFERENCE).items()}
    ours = costs[REFERENCE]
    operations = [cost.flops / ours.flops for cost in costs.values()]
    parameters = [cost.parameters / ours.parameters for cost in costs.values()]
    line = (
        f"At one width and depth, MLPs {_span([cost.mlp_width / ours.mlp_width for cost in costs.values()])} as wide,"
        f" the operations of a forward pass are {_span(operations)} of {REFERENCE}'s, the parameters"
        f" {_span(parameters)}."
    )
    section = Section("What each row holds and computes", [cost_table(costs)])
    more = {"costs": {label: cost._asdict() for label, cost in costs.items()}}
    return compare_schemes(title, outcomes, reference=REFERENCE).led_by([line], [section], more, position=1)


def cost_of(outcome: Outcome) -> Cost:
    """Of its network on its data."""
    model, spec = outcome.job.config.model, outcome.run.spec
    assert isinstance(model, DiTConfig)  # a scale stands in for DiT-XL/2
    return Cost(model.mlp_width, num_parameters(model, spec), flops(model, spec))


def cost_table(costs: Mapping[str, Cost]) -> Table:
    """A row each, beside the reference's."""
    ours = costs[REFERENCE]
    columns = [
        Column("row"),
        Column("start"),
        Column("MLP width", format=",d"),
        Column("trainable parameters", format=",d"),
        Column("change", "%", "+.1f"),
        Column("forward", "M multiply-adds", ",.2f"),
        Column("change", "%", "+.1f"),
    ]
    rows: list[list[Cell]] = [
        [
            label,
            ROWS[label].scheme,
            cost.mlp_width,
            cost.parameters,
            100 * (cost.parameters / ours.parameters - 1),
            cost.flops / 2e6,
            100 * (cost.flops / ours.flops - 1),
        ]
        for label, cost in costs.items()
    ]
    note = f"Changes are from {REFERENCE}. Linear maps, convolutions and attention products, of one image."
    return Table("Parameters and operations", columns, rows, [note])


def _span(shares: Sequence[float]) -> str:
    """`"66 to 100 %"`, or `"100 %"`."""
    least, most = (f"{100 * share:.0f}" for share in (min(shares), max(shares)))
    return f"{least} %" if least == most else f"{least} to {most} %"


def _study(name: str, title: str, *, as_large: bool) -> Study:
    rows = ROWS.items()
    settings = [Setting(label, row.scheme, options=row.options, as_large=as_large) for label, row in rows]
    return Study(name, title, tuple(settings), partial(reduce, title))


MECHANISMS = _study("mechanisms", TITLE, as_large=False)
MECHANISMS_AS_LARGE = _study("mechanisms-as-large", f"{TITLE.rstrip('?')}, at equal parameters?", as_large=True)
