"""`adaln study list`: every study at every scale, and what each costs on this machine."""

import os
from dataclasses import asdict
from functools import cache
from typing import TYPE_CHECKING

from adaln.cli.output import Output
from adaln.cli.progress_bar import span
from adaln.config import RunConfig
from adaln.report import Cell, Column, Table
from adaln.specs import Precision
from adaln.studies import SCALES, STUDIES
from adaln.studies.choices import OF_WEIGHTS

if TYPE_CHECKING:
    import adaln.studies
    import adaln.studies.run.costs


def listing() -> Output:
    """All studies at all scales, with what each costs here."""
    import torch

    from adaln.execution import kept_rate
    from adaln.parallel import find_device
    from adaln.studies import Plan
    from adaln.studies.questions.distribution_figures import figure_title
    from adaln.studies.run.costs import study_cost

    device = find_device("auto")
    workers = torch.cuda.device_count() if device.type == "cuda" else os.cpu_count() or 1
    plans = [Plan(study, scale, study.default_seeds(scale)) for scale in SCALES.values() for study in STUDIES.values()]

    @cache
    def rate_of(width: int, precision: Precision) -> float:
        return kept_rate(width, precision, device)

    def rate(config: RunConfig) -> float:
        return rate_of(config.model.hidden_size, config.precision)

    rows = [(plan, study_cost(plan, rate, workers)) for plan in plans]
    where = f"{workers} x {torch.cuda.get_device_name()}" if device.type == "cuda" else f"{workers} CPU cores"
    data = [
        {"study": plan.study.name, "question": plan.study.title, "scale": plan.scale.name}
        | {"rows": len(plan.study.settings), "seeds": len(plan.seeds), **asdict(cost)}
        | {"and_more": plan.study.then is not None}
        for plan, cost in rows
    ]
    of_weights = [{"study": name, "question": figure_title(name), "runs": 0} for name in OF_WEIGHTS]
    lines = [
        f"{row['study']} trains nothing ({row['question']}): adaln study {row['study']} --weights MODEL..."
        for row in of_weights
    ]
    return Output([*data, *of_weights], [*(_cost_table(name, rows, where) for name in SCALES), *lines])


def _cost_table(scale: str, rows: "list[tuple[adaln.studies.Plan, adaln.studies.run.costs.Cost]]", where: str) -> Table:
    columns = [Column("study"), Column("seeds", format="d", spare=3), Column("runs", format=",d")]
    columns += [Column("steps", format=",d", spare=1), Column("time", align="right")]
    columns += [Column("disk", "GB", ".1f", spare=2), Column("question")]
    cells: list[list[Cell]] = [
        [
            plan.study.name + "+" * (plan.study.then is not None),
            *(len(plan.seeds), cost.runs, cost.steps, span(cost.seconds), cost.bytes / 1e9, plan.study.title),
        ]
        for plan, cost in rows
        if plan.scale.name == scale
    ]
    notes = [
        f"Time: the least that it takes on {where}, at the rate of products of matrices that was timed here once; small"
        " networks take several times as long, and a study that runs says what is left. Each study by itself: runs that"
        " two studies share are trained once. +: and further runs that depend on these."
    ]
    return Table(f"Scale {scale}: {SCALES[scale].what}", columns, cells, notes)
