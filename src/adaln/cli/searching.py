"""`adaln search`."""

import shlex
import time
from dataclasses import dataclass, field
from typing import Annotated

import tyro

from adaln.cli.answer import Answer
from adaln.cli.launching import Launching, going_on_with, launched
from adaln.cli.parsing import Flat, parse
from adaln.cli.presets import take_preset
from adaln.cli.progress import duration
from adaln.config import RunConfig
from adaln.progress import titled
from adaln.studies.search.page import Found, write_search
from adaln.studies.search.trials import Search, run_search


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """What is looked for, what a trial trains, and where its runs are done."""

    config: Flat[RunConfig]
    trials: int = 20
    """How many starts are tried; asked for more later, a search goes on where it ended."""
    search: Flat[Annotated[Search, tyro.conf.UseAppendAction]] = field(default_factory=Search)
    launch: Flat[Launching] = field(default_factory=Launching)


def search_verb(words: list[str]) -> Answer:
    """PRESET --over ROLE [--over ROLE] [--trials N] [--seeds K] [any field]: the std per role that serves best."""
    again = f"adaln {shlex.join(['search', *words])}"
    preset, config, words = take_preset(words)
    options = parse(SearchOptions, f"search {preset}", words, SearchOptions(config))
    search, base, root = options.search, options.config, options.launch.root
    start = time.monotonic()
    with going_on_with(again), titled(f"search {base.name}"), launched(options.launch) as launcher:
        trials = run_search(search, base, options.trials, root, launcher)
    folder, result = write_search(Found.of(search, base, trials, root), root, again)
    page, scheme_file = (folder / "index.html").resolve(), folder / "best.json"
    data = {
        "report": str(page),
        "result_file": str(folder / "result.json"),
        "scheme_file": str(scheme_file),
        **result.data,
    }
    took = duration(time.monotonic() - start)
    use = f"use it: adaln train {preset} --scheme {scheme_file}"
    return Answer(data, [result.table, *result.data["verdict"], use, f"took {took}; the report lies at {page}"])
