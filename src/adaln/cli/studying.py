"""`adaln study` and `adaln report`."""

import json
import os
import shlex
import time
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from adaln.cli.answer import Answer
from adaln.cli.devices import find_device
from adaln.cli.launching import Launching, going_on_with, launched
from adaln.cli.parsing import Flat, parse, parse_after, take_word, wants_help
from adaln.cli.progress import duration
from adaln.files import reading
from adaln.progress import progress, titled
from adaln.report import Cell, Column, Table, write_report
from adaln.runs import Run
from adaln.studies import SCALES, STUDIES, Changes, Plan, reduce_study, run_study
from adaln.studies.paper.distribution_figures import ELSEWHERE
from adaln.studies.running.costs import Cost, measured_speed, networks, study_cost
from adaln.views.run_page import run_page
from adaln.views.sections import with_saved


@dataclass(frozen=True, slots=True)
class StudyOptions:
    """How large a study is, and how it is run."""

    scale: str = "tiny"
    """tiny (two CPU cores), small (one GPU) or paper (the published protocol); `adaln study list` shows the cost."""
    seeds: int | None = None
    """Seeds per row; default: the scale's own."""
    changes: Flat[Changes] = field(default_factory=Changes)
    launch: Flat[Launching] = field(default_factory=Launching)


@dataclass(frozen=True, slots=True)
class NoOptions:
    """Writes report/index.html, index.md and every table and picture into the run's or study's folder."""


def study_verb(words: list[str]) -> Answer:
    """NAME [--scale S] [--seeds K] [--jobs N], or list: do all the runs of a study, print its table, write its page."""
    if wants_help(words):
        parse(StudyOptions, f"study {{{','.join(STUDIES)}}}", ["--help"])
    name, words = take_word(words, f"a study ({', '.join(STUDIES)})")
    if name == "list":
        return _listing()
    if name in ELSEWHERE:
        raise ValueError(ELSEWHERE[name])
    study = STUDIES[name]
    options = parse(StudyOptions, f"study {name}", words)
    scale = SCALES[options.scale]
    seeds = scale.seeds if options.seeds is None else options.seeds
    if seeds < 2:
        raise ValueError(f"seeds is {seeds}; expected at least 2 seeds")
    plan = Plan(study, scale, tuple(range(seeds)), options.changes)
    start = time.monotonic()
    again = f"adaln {shlex.join(['study', name, *words])}"
    with going_on_with(again), titled(f"study {name}"), launched(options.launch) as launcher:
        folder, result = run_study(plan, options.launch.root, launcher)
    page = folder / "index.html"
    data = {"report": str(page.resolve()), "result_file": str(folder / "result.json"), **result.data}
    took = duration(time.monotonic() - start)
    return Answer(data, [result.table, *result.data["verdict"], f"took {took}; the report lies at {page.resolve()}"])


def _listing() -> Answer:
    """All studies at all scales, with what each costs here."""
    device = find_device("auto")
    workers = torch.cuda.device_count() if device.type == "cuda" else os.cpu_count() or 1
    plans = [Plan(study, scale, tuple(range(scale.seeds))) for scale in SCALES.values() for study in STUDIES.values()]
    speed = partial(measured_speed, device=device)
    to_time = networks(plans)
    for number, (config, spec) in enumerate(to_time):
        progress("timing networks", number, len(to_time), "networks")
        speed(config, spec)
    rows = [(plan, study_cost(plan, speed, workers)) for plan in plans]
    where = f"{workers} x {torch.cuda.get_device_name()}" if device.type == "cuda" else f"{workers} CPU cores"
    return Answer([_cost_row(*row) for row in rows], [_cost_table(name, rows, where) for name in SCALES])


def _cost_row(plan: Plan, cost: Cost) -> dict[str, Any]:
    row = {"study": plan.study.name, "question": plan.study.title, "scale": plan.scale.name}
    has_more = plan.study.then is not None
    return {**row, "rows": len(plan.study.settings), "seeds": len(plan.seeds), **asdict(cost), "and_more": has_more}


def _cost_table(scale: str, rows: list[tuple[Plan, Cost]], where: str) -> Table:
    columns = [
        Column("study"),
        Column("runs", format=",d"),
        Column("steps", format=",d"),
        Column("time", align="right"),
    ]
    columns += [Column("disk", "GB", ".1f"), Column("question")]
    cells: list[list[Cell]] = [
        [
            plan.study.name + "+" * (plan.study.then is not None),
            *(cost.runs, cost.steps, span(cost.seconds), cost.bytes / 1e9, plan.study.title),
        ]
        for plan, cost in rows
        if plan.scale.name == scale
    ]
    notes = [
        f"{SCALES[scale].seeds} seeds. Time: estimated for {where}, from steps timed just now. Each study by itself:"
        " runs that two studies share are trained once. +: and further runs that depend on these.",
    ]
    return Table(f"Scale {scale}: {SCALES[scale].what}", columns, cells, notes)


def span(seconds: float) -> str:
    """Hours and minutes, from two days on in days.

    >>> span(90), span(200_000), span(1e9)
    ('1 min 30 s', '2.3 days', '11,574 days')
    """
    days = seconds / 86_400
    return duration(seconds) if days < 2 else f"{days:,.1f} days" if days < 100 else f"{days:,.0f} days"


def report_verb(words: list[str]) -> Answer:
    """RUN-OR-STUDY: write its page, and every table and picture of it as a file."""
    _, (name,) = parse_after(NoOptions, "report RUN-OR-STUDY", words, "a run's folder or a study's")
    folder = Path(name)
    file = folder / "study.json"
    if file.exists():
        with reading(file, "a study"):
            about = json.loads(file.read_text(encoding="utf-8"))
            study, scale, changes = STUDIES[about["study"]], SCALES[about["scale"]], Changes(**about["changes"])
            plan = Plan(study, scale, tuple(about["seeds"]), changes)
        page = reduce_study(plan, folder.parent.parent).page
    else:
        page = run_page(Run.open(folder))
    path = write_report(with_saved(page, folder / "analysis"), folder / "report").resolve()
    return Answer({"report": str(path)}, [f"the report lies at {path}, its tables and pictures beside it"])
