"""`adaln report`."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from adaln.cli.options import OpenedFrom, named, parse
from adaln.cli.output import Output
from adaln.codec import decode
from adaln.files import reading
from adaln.report import Page, write_report
from adaln.studies import SCALES, STUDIES, Overrides

if TYPE_CHECKING:
    from adaln.models import ModelConfig


@dataclass(frozen=True, slots=True)
class ReportOptions:
    """Writes report/index.html, index.md and every table and picture into the run's, study's or choice's folder."""

    folder: Annotated[OpenedFrom[Path], named("RUN-OR-STUDY")]
    """A run's folder, a study's, a choice's, or one that adaln.watch wrote."""


@dataclass(frozen=True, slots=True)
class About:
    """What study.json says: which plan a folder is of."""

    study: str
    scale: str
    seeds: tuple[int, ...]
    changes: Overrides

    def __post_init__(self) -> None:
        if not self.seeds or min(self.seeds) < 0:
            raise ValueError(f"seeds are {list(self.seeds)}; expected one or more integers >= 0")


@dataclass(frozen=True, slots=True)
class AboutWeights:
    """The same of a figure of given weights."""

    study: str
    weights: tuple[str, ...]


def report_verb(words: list[str]) -> Output:
    """RUN-OR-STUDY: write its page, and every table and picture of it as a file."""
    folder = parse(ReportOptions, "report", words).folder

    from adaln.analysis.watch_handle import is_watched
    from adaln.runs import Run
    from adaln.views.run_page import run_page, with_saved
    from adaln.views.watched import watched_page

    if (folder / "study.json").exists():
        page = study_page(folder)
    elif (folder / "choice.json").exists():
        page = choice_page(folder)
    elif is_watched(folder):
        page = watched_page(folder)
    else:
        run = Run.open(folder)
        with naming_factory(run.config.model):
            page = run_page(run)
    path = write_report(with_saved(page, folder / "analysis"), folder / "report").resolve()
    return Output({"report": str(path)}, [f"the report lies at {path}, its tables and pictures beside it"])


def study_page(folder: Path) -> Page:
    """Of a study, from its runs or weights; `ValueError` where some of them are missing."""
    from adaln.studies import Plan
    from adaln.studies.questions.racing import reduced
    from adaln.studies.questions.zero_convolutions import command, draw_zero_convolutions

    file = folder / "study.json"
    with reading(file, "a study"):
        row = json.loads(file.read_text(encoding="utf-8"))
        weights = decode(AboutWeights, row, "study").weights if "weights" in row else ()
    if weights:
        return draw_zero_convolutions(weights).page(command(weights))
    with reading(file, "a study"):
        about = decode(About, row, "study")
        plan = Plan(STUDIES[about.study], SCALES[about.scale], about.seeds, about.changes)
    return plan.page(reduced(plan, folder.parent.parent))


def choice_page(folder: Path) -> Page:
    """Of `adaln choose`, from its runs; `ValueError` where some of them are missing."""
    from adaln.studies.questions.choose import again
    from adaln.studies.questions.choose_page import reduce_choice
    from adaln.studies.questions.choose_question import Question

    asked, root = Question.read(folder), folder.parent.parent
    with naming_factory(asked.base.model):
        return reduce_choice(again(asked, root), root).page(asked.command)


@contextmanager
def naming_factory(model: "ModelConfig") -> Iterator[None]:
    """Where the layout of anyone's network is not known, the option that imports what may bring it."""
    from adaln.conditioning import UnknownLayout
    from adaln.models import OwnConfig

    try:
        yield
    except UnknownLayout as error:
        if not isinstance(model, OwnConfig) or model.is_imported:
            raise
        made = f"the network is made by {model.factory!r}, whose module may bring its layout"
        raise ValueError(f"{error.args[0]}; {made}: expected --model {model.factory} in this command as well") from None
