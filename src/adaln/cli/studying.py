"""`adaln study` and `adaln report`."""

import json
import shlex
import time
from dataclasses import dataclass, field
from pathlib import Path

from adaln.cli.answer import Answer
from adaln.cli.launching import Launching, going_on_with, in_stages, launched
from adaln.cli.parsing import Flat, parse, take_word, wants_help
from adaln.cli.progress import duration, told
from adaln.report import Column, Table, write_report
from adaln.runs import Run
from adaln.studies import SCALES, STUDIES, Changes, Plan, reduce_study, run_study
from adaln.studies.figure_studies import ELSEWHERE
from adaln.studies.run_page import run_page
from adaln.studies.sections import with_saved


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
    with going_on_with(again), told() as tell, launched(options.launch) as launcher:
        folder, result = run_study(plan, options.launch.root, launcher, in_stages(tell, f"study {name}"))
    page = folder / "index.html"
    data = {"report": str(page.resolve()), "result_file": str(folder / "result.json"), **result.data}
    took = duration(time.monotonic() - start)
    return Answer(data, [result.table, *result.data["verdict"], f"took {took}; the report lies at {page.resolve()}"])


def _listing() -> Answer:
    rows = [(name, len(study.settings), study.title) for name, study in STUDIES.items()]
    columns = [Column("study"), Column("rows"), Column("question")]
    data = [{"study": name, "rows": count, "question": title} for name, count, title in rows]
    return Answer(data, [Table("Studies", columns, rows, ["Runs that two studies share are trained once."])])


def report_verb(words: list[str]) -> Answer:
    """RUN-OR-STUDY: write its page, and every table and picture of it as a file."""
    if wants_help(words):
        parse(NoOptions, "report RUN-OR-STUDY", ["--help"])
    name, words = take_word(words, "a run's folder or a study's")
    folder = Path(name)
    parse(NoOptions, "report RUN-OR-STUDY", words)
    if (folder / "study.json").exists():
        about = json.loads((folder / "study.json").read_text(encoding="utf-8"))
        study, scale, changes = STUDIES[about["study"]], SCALES[about["scale"]], Changes(**about["changes"])
        page = reduce_study(Plan(study, scale, tuple(about["seeds"]), changes), folder.parent.parent).page
    else:
        page = run_page(Run.open(folder))
    path = write_report(with_saved(page, folder / "analysis"), folder / "report").resolve()
    return Answer({"report": str(path)}, [f"the report lies at {path}, its tables and pictures beside it"])
