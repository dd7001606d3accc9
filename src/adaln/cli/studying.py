"""`adaln study`, `adaln choose` and `adaln search`."""

import shlex
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from adaln.cli.options import Device, Flat, Positional, named, parse, take_options, take_preset
from adaln.cli.output import Output
from adaln.cli.progress_bar import duration
from adaln.cli.study_list import listing
from adaln.conditioning import scheme
from adaln.config import RunConfig, model_name
from adaln.progress import note, titled
from adaln.studies import SCALES, STUDIES, Overrides
from adaln.studies.choices import (
    FITTED,
    OF_WEIGHTS,
    USUAL_STARTS,
    Budget,
    Choice,
    Cluster,
    Rules,
    Search,
    check_weights,
)

if TYPE_CHECKING:
    import adaln.runs
    import adaln.studies
    import adaln.studies.run.workers
    from adaln.studies.questions.choose_question import Question


@dataclass(frozen=True, slots=True)
class Launching:
    """Where runs are done, and how many at the same time: it changes the speed, not the numbers."""

    jobs: int | None = None
    """Runs at the same time, each held to its own cores or GPU; default: one per GPU, else one per core."""
    device: Device = "auto"
    launcher: Literal["local", "submitit"] = "local"
    """submitit: Slurm array jobs, one for each run (pip install 'adaln[cluster]')."""
    cluster: Cluster = field(default_factory=Cluster)
    root: Path = Path("runs")
    """Folder that holds the runs and the results."""


@dataclass(frozen=True, slots=True)
class StudyOptions:
    """All the runs of a question, its table and its page; what is finished is kept, and the same command goes on."""

    name: Annotated[
        Positional[str], named("NAME", "A study, or list: all of them by name, and what each costs on this machine.")
    ]
    scale: str = "tiny"
    """tiny, ratio (stds of as many learning rates as the paper's), images-32 (the same in colour), all on two cores;
    small (one GPU); paper (the published protocol). `adaln study list` shows the cost."""
    seeds: int | None = None
    """Seeds per row; default: the scale's own, and 8 for quickstart, whose rows race for them as in adaln choose."""
    overrides: Flat[Overrides] = field(default_factory=Overrides)
    weights: Annotated[tuple[str, ...], named("MODEL...")] = ()
    """Of figure20, which trains nothing: the ControlNets that it shows, as files, folders or hf:ORG/NAME."""
    dry_run: bool = False
    """Say which runs there would be and what they take, and train nothing."""
    launch: Flat[Launching] = field(default_factory=Launching)


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """The std of gate, scale and shift that serves best, searched for by Optuna; the same command goes on."""

    preset: Annotated[Positional[str], named("PRESET")]
    """A preset (adaln presets lists them): what a trial trains."""
    config: Flat[RunConfig]
    trials: int = 20
    """How many starts are tried; asked for more later, a search goes on where it ended."""
    search: Flat[Annotated[Search, tyro.conf.UseAppendAction]] = field(default_factory=Search)
    dry_run: bool = False
    """Say what the trials take, and train nothing."""
    launch: Flat[Launching] = field(default_factory=Launching)


@dataclass(frozen=True, slots=True)
class ChooseOptions:
    """Which start serves best: every start is trained on the same seeds until the answer is known."""

    preset: Annotated[Positional[str], named("PRESET")]
    """A preset (adaln presets lists them): what every run trains."""
    config: Flat[RunConfig]
    budget: str = ""
    """What may be spent in all: a time (90min, 2h, 3d), runs (40runs) or operations (1e15flop)."""
    rules: Flat[Annotated[Rules, tyro.conf.UseAppendAction]] = field(default_factory=Rules)
    repeat: int = 1
    """Ask on so many disjoint sets of seeds, each with the whole budget: how often is the answer the same?"""
    dry_run: bool = False
    """Say what the budget is good for, and train nothing."""
    launch: Flat[Launching] = field(default_factory=Launching)

    def __post_init__(self) -> None:
        if self.repeat < 1:
            raise ValueError(f"repeat is {self.repeat}; expected an integer >= 1")


def study_verb(words: list[str]) -> Output:
    """NAME [--scale S] [--seeds K] [--jobs N], or list: do all the runs of a study, print its table, write its page."""
    options = parse(StudyOptions, "study", words)
    if options.name == "list":
        return listing()
    if options.name not in OF_WEIGHTS:
        STUDIES.check(options.name)
    SCALES.check(options.scale)
    of_runs = {"scale": None if options.scale == "tiny" else options.scale, "seeds": options.seeds}
    check_weights(options.name, options.weights, **of_runs, **asdict(options.overrides))
    if options.dry_run:
        return _dry_study(options) if options.name in STUDIES else _dry_weights(options.weights)
    start = time.monotonic()

    from adaln.studies.registry import study

    with going_on_with(command("study", words)), launched(options.launch) as launcher, titled(f"study {options.name}"):
        finished = study(
            options.name,
            options.scale,
            options.seeds,
            weights=options.weights,
            root=options.launch.root,
            launcher=launcher,
            **asdict(options.overrides),
        )
    return _finished(finished.folder, finished.result, start)


def search_verb(words: list[str]) -> Output:
    """PRESET --over ROLE [--over ROLE] [--trials N] [--seeds K] [any field]: the std per role that serves best."""
    preset, config, rest = take_preset(words)
    options = parse(SearchOptions, "search", rest, SearchOptions(preset, config))
    search, base, root = options.search, options.config, options.launch.root
    start = time.monotonic()
    again = command("search", words)

    from adaln.evaluation.checkpoints import unmade
    from adaln.studies.questions.search import check_search, jobs_of, run_search
    from adaln.studies.questions.search_page import SearchResult, write_search

    if options.dry_run:
        check_search(search, base, options.trials, makes_reference=False)
        stds = [{str(role): search.low * k for role in search.over} for k in range(1, options.trials + 1)]
        jobs = [job for k, of in enumerate(stds) for job in jobs_of(search, base, k, of, base.steps)]
        return _dry(jobs, options.launch, unmade(base))
    with going_on_with(again), launched(options.launch) as launcher, titled(f"search {base.name}"):
        trials = run_search(search, base, options.trials, root, launcher)
    folder, result = write_search(SearchResult.of(search, base, trials, root), root, again)
    scheme_file = folder / "best.json"
    use = f"use it: adaln train {preset} --scheme {scheme_file}"
    return _finished(folder, result, start, [use], {"scheme_file": str(scheme_file)})


def choose_verb(words: list[str]) -> Output:
    """PRESET --budget 2h [--scheme A --scheme B ...] [any field]: which start serves best, in as few runs as can be."""
    preset, config, rest = take_preset(words)
    names, rest = take_options(rest, "--scheme")
    options = parse(ChooseOptions, "choose", rest, ChooseOptions(preset, config))
    given = {name: scheme(name) for name in names or USUAL_STARTS}
    if len(given) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"scheme {twice!r} is given twice; expected each once")
    rules = options.rules
    if rules.reference in given:  # a file, or with parameters
        rules = replace(rules, reference=given[rules.reference].name)
    choice = Choice(tuple(given.values()), rules)
    budget, base, launch, again = Budget.of(options.budget), options.config, options.launch, command("choose", words)
    start = time.monotonic()

    from adaln.cli.dry_runs import Rates
    from adaln.evaluation.checkpoints import unmade
    from adaln.parallel import find_device
    from adaln.studies.comparison_tables import train_longer
    from adaln.studies.questions.choose_page import USE, write_choice
    from adaln.studies.questions.choose_question import Question, made_as
    from adaln.studies.questions.choose_repeated import run_repeated, write_repeated
    from adaln.studies.run.workers import workers_for

    device = find_device(launch.device)
    rate = 1.0
    if budget.unit == "seconds":
        rate = len(workers_for(device, launch.jobs)) * Rates(unmade(base).spec, device, 1).of(base)
    if not names and (own := made_as(base)) and own not in choice.schemes:
        note(f"{own.name} is among the starts, for so {model_name(base.model)} is made")
        choice = replace(choice, schemes=(*choice.schemes, own))
    asked = Question.of(choice, base, budget, launch.root, again)
    if options.dry_run:
        return _dry_choice(asked, rate, options)
    with going_on_with(again), launched(launch) as launcher, titled(f"choose {base.name}"):
        sets = run_repeated(asked, launch.root, launcher, rate, options.repeat)
    if options.repeat > 1:
        return _finished(*write_repeated(sets), start)
    result, scheme_file = write_choice(chosen := sets[0], launch.root), asked.folder / USE
    job = chosen.jobs[chosen.advised][0]
    uses = [
        f"to train with {chosen.advised}: {train_longer(job.config, job.run_in(launch.root).path)}",
        f"as a scheme for any other: adaln train PRESET --scheme {scheme_file}",
    ]
    return _finished(asked.folder, result, start, uses, {"scheme_file": str(scheme_file)})


def _dry_choice(asked: "Question", rate: float, options: ChooseOptions) -> Output:
    from adaln.evaluation.checkpoints import unmade
    from adaln.studies.questions.choose_question import check_choice, fits, starts_of

    starts = starts_of(asked.choice)
    seeds, plan = check_choice(asked, starts, rate, makes_reference=False)
    fitted = {FITTED: replace(asked.choice.base, name=FITTED)} if fits(asked) else {}  # takes as much, whatever it is
    jobs = [asked.job(start, seed) for seed in range(seeds) for start in (starts | fitted).values()]
    cost = _dry(jobs, options.launch, unmade(asked.base))
    first = f"{options.repeat} x, each of them: " * (options.repeat > 1) + plan
    return Output({"plan": plan, **cost.data}, [first, *cost.shown])


def _dry_study(options: StudyOptions) -> Output:
    from adaln.runs import Run
    from adaln.studies.protocol import check_is_papers
    from adaln.studies.registry import planned
    from adaln.studies.study import by_run

    plan, root = planned(options.name, options.scale, options.seeds, options.overrides), options.launch.root
    check_is_papers(plan)
    of_one_seed = by_run(replace(plan, seeds=plan.seeds[:1]).jobs()).values()
    first, *_ = [Run.planned(of_run[-1].config, root) for of_run in of_one_seed]  # all fit their data, or are refused
    return _dry(plan.jobs(), options.launch, first)


def _dry_weights(weights: Sequence[str]) -> Output:
    from adaln.studies.questions.zero_convolutions import controlnets

    networks = controlnets(weights)
    data = [{"network": n.label, "weights": n.given, "zero_convolutions": len(n.rows)} for n in networks]
    lines = [f"{n.label}: {n.read}" for n in networks]
    return Output(data, [*lines, "nothing is trained, and nothing was written"])


def _dry(jobs: "Sequence[adaln.studies.Job]", launch: Launching, run: "adaln.runs.Run") -> Output:
    from adaln.cli.dry_runs import dry_run
    from adaln.parallel import find_device
    from adaln.studies.run.workers import workers_for

    device = find_device(launch.device)
    return dry_run(jobs, launch.root, device, len(workers_for(device, launch.jobs)), run)


def _finished(
    folder: Path,
    result: "adaln.studies.Result",
    start: float,
    lines: Sequence[str] = (),
    files: dict[str, str] | None = None,
) -> Output:
    page = (folder / "index.html").resolve()
    data = {"report": str(page), "result_file": str(folder / "result.json"), **(files or {}), **result.data}
    took = f"took {duration(time.monotonic() - start)}; the report lies at {page}"
    return Output(data, [result.table, *result.data["verdict"], *lines, took])


@contextmanager
def launched(options: Launching) -> "Iterator[adaln.studies.run.workers.Launcher]":
    """The launcher that was asked for; what it started is stopped when the block is left early."""
    from adaln.parallel import find_device
    from adaln.studies.run.cluster import Jobs
    from adaln.studies.run.workers import Workers, workers_for

    if options.launcher == "submitit":
        yield Jobs(options.root / "cluster", options.cluster)
    else:
        with Workers(workers_for(find_device(options.device), options.jobs)) as workers:
            yield workers


@contextmanager
def going_on_with(command: str) -> Iterator[None]:
    """Adds to the names of runs that failed the command that does what is missing."""
    from adaln.studies.run.run_study import Unfinished

    try:
        yield
    except Unfinished as error:
        raise Unfinished(f"{error}; go on with: {command}") from error


def command(verb: str, words: Sequence[str]) -> str:
    """What a user types."""
    return f"adaln {shlex.join([verb, *words])}"
