"""What a search found: the table of its trials, std against score, a scheme to train with, and how far to trust it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, variance

from adaln.codec import canonical_json, encode, json_text
from adaln.config import RunConfig, model_name
from adaln.evaluation.checkpoints import read_scores
from adaln.files import write_atomically
from adaln.report import (
    Axis,
    Cell,
    Column,
    Command,
    Facts,
    Lines,
    Marked,
    Measurement,
    Section,
    Series,
    Table,
    write_page,
)
from adaln.statistics import t_interval
from adaln.studies.choices import Search
from adaln.studies.questions.search import Trial, candidate, jobs_of, search_folder
from adaln.studies.study import Result
from adaln.views.figures import LETTERS
from adaln.views.scores import shown_name

ENDS = ("finished", "pruned", "diverged")


@dataclass(frozen=True, slots=True)
class SearchResult:
    """A search and its trials, to be written down."""

    search: Search
    base: RunConfig
    trials: Sequence[Trial]
    objective: str
    """What was made small, by the name that it has in these features."""
    note: str
    """What that name stands for."""

    @classmethod
    def of(cls, search: Search, base: RunConfig, trials: Sequence[Trial], root: Path) -> "SearchResult":
        """Of trials whose runs lie in `root`; raises `ValueError` where every one of them diverged."""
        if not any(trial.end == "finished" for trial in trials):
            raise ValueError(f"all {len(trials)} trials diverged; expected a smaller --high, or a smaller optim.lr")
        if search.objective == "loss":
            return cls(search, base, trials, "loss", "Loss: mean over the last tenth of the steps.")
        best = min((trial for trial in trials if trial.end == "finished"), key=lambda trial: trial.value)
        job = jobs_of(search, base, best.number, best.stds, best.step)[0]
        scores = read_scores(job.run_in(root), job.scoring, best.step)
        name = shown_name("fid", scores)
        return cls(search, base, trials, name, f"{name}: in {scores['fid'].label}.")

    @property
    def finished(self) -> list[Trial]:
        """Trials that went to the end, the best first."""
        return sorted((trial for trial in self.trials if trial.end == "finished"), key=lambda trial: trial.value)

    @property
    def noise(self) -> float | None:
        """Standard deviation over seeds, pooled over finished trials; None with one seed per trial."""
        variances = [variance(trial.values) for trial in self.finished if len(trial.values) > 1]
        return fmean(variances) ** 0.5 if variances else None


def write_search(result: SearchResult, root: Path, command: str) -> tuple[Path, Result]:
    """Write `best.json` (a scheme for `adaln train --scheme`), `result.json` and `index.html`; returns their folder."""
    folder = search_folder(result.search, result.base, root)
    best = candidate(result.base.scheme, result.finished[0].stds)
    scheme_file = write_atomically(folder / "best.json", canonical_json(encode(best)))
    reduced = reduce_search(result, scheme_file)
    write_page(reduced.page(command), folder / "index.html")
    write_atomically(folder / "result.json", json_text(reduced.data) + "\n")
    return folder, reduced


def reduce_search(result: SearchResult, scheme_file: Path) -> Result:
    """The trials as a table, a picture for each role, and a verdict."""
    search, base, table = result.search, result.base, trial_table(result)
    use = f"adaln train PRESET --scheme {scheme_file} --seed {base.seed + search.seeds}"
    choices: dict[str, str | float | None] = {
        "model": model_name(base.model),
        "data": base.data.path,
        "steps": base.steps,
        "learning rate": base.optim.lr,
        "seeds per trial": search.seeds,
        "trials proposed at once": search.at_once,
        "std over seeds": result.noise,
    }
    sections = [
        Section("Result", [table, "The best start, on a seed that the search has not seen:", Command(use)]),
        Section("Std against score", [figure(result, role) for role in search.over]),
    ]
    numbers = {
        "objective": result.objective,
        "best": result.finished[0].number,
        "noise_over_seeds": result.noise,
        "trials": [asdict(trial) for trial in result.trials],
    }
    title = f"Std of {', '.join(search.over)} under {base.scheme.name}"
    return Result(title, verdict_of(result), table, sections, Facts("Every trial", choices), numbers)


def verdict_of(result: SearchResult) -> list[str]:
    """The best trial, how many others are as good for all that can be told, and what the best of many is worth."""
    best, *others = result.finished
    stds = ", ".join(f"{role} {std:g}" for role, std in best.stds.items())
    count = f"trial {best.number} of {len(result.trials)}"
    lines = [f"Best start: {stds}, with {result.objective} {best.value:.4g} ({count})."]
    if result.noise is None:
        lines.append("One seed per trial: how much of the differences is noise cannot be told (--seeds 2 or more).")
    else:
        reach = 2 * result.noise * (2 / result.search.seeds) ** 0.5
        close = sum(trial.value <= best.value + reach for trial in others)
        lines.append(
            f"Seeds alone move the {result.objective} by {result.noise:.2g} (std): {close} of the other {len(others)}"
            f" finished trials lie within {reach:.2g} of the best, two standard errors of a difference."
        )
    return [*lines, "The best of many looks better than it is: it is to be run on new seeds before it is believed."]


def trial_table(result: SearchResult) -> Table:
    """A row per trial: the finished ones first, the best at the top."""
    ranked = sorted(result.trials, key=lambda trial: (ENDS.index(trial.end), trial.value, trial.number))
    columns = [
        Column("trial"),
        *(Column(f"std of {role}", LETTERS[role], "g") for role in result.search.over),
        Column(result.objective, "lower is better", ".4g"),
        Column("step", format=",d"),
        Column("end"),
    ]
    rows = [[trial.number, *trial.stds.values(), value_cell(trial, result), trial.step, trial.end] for trial in ranked]
    notes = [f"{result.search.seeds} seeds per trial, 95 % t intervals in brackets."] if result.search.seeds > 1 else []
    return Table("Trials", columns, rows, [result.note, *notes])


def value_cell(trial: Trial, result: SearchResult) -> Cell:
    """The objective, with its interval where there are seeds to tell it."""
    if not trial.values:
        return None
    value = Measurement.of(t_interval(trial.values)) if len(trial.values) > 1 else trial.value
    return Marked(value) if trial == result.finished[0] else value


def figure(result: SearchResult, role: str) -> Lines:
    """Objective of the finished trials against the std of one role; the others vary as well."""
    best, *others = result.finished
    seeds = result.search.seeds
    caption = (
        f"{result.objective} of the {len(result.finished)} trials that went to the end, mean over {seeds} seeds"
        f" (n = {seeds}), against the std that W_{LETTERS[role]} started with. {result.note}"
    )
    series = [
        Series(name, [t.stds[role] for t in trials], [t.value for t in trials], joined=False)
        for name, trials in (("trials", others), ("best", [best]))
        if trials
    ]
    x, y = Axis(f"std of {role}", f"start of W_{LETTERS[role]}", "log"), Axis(result.objective, "lower is better")
    return Lines(f"Std of {role} against {result.objective}", caption, x, y, series)
