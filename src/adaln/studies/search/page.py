"""What a search found: the table of its trials, std against score, a scheme to train with, and how far to trust it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, variance

from adaln.codec import canonical_json, encode, json_text
from adaln.config import RunConfig, model_name
from adaln.evaluation.files import read_scores
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
    Page,
    Section,
    Series,
    Table,
    write_page,
)
from adaln.statistics import t_interval
from adaln.studies.plan import Result
from adaln.studies.running.work import run_of
from adaln.studies.search.trials import Search, Trial, candidate, jobs_of, search_folder
from adaln.views.figures import LETTERS
from adaln.views.scores import shown_name

ENDS = ("finished", "pruned", "diverged")


@dataclass(frozen=True, slots=True)
class Found:
    """A search and its trials, to be written down."""

    search: Search
    base: RunConfig
    trials: Sequence[Trial]
    objective: str
    """What was made small, by the name that it has in these features."""
    note: str
    """What that name stands for."""

    @classmethod
    def of(cls, search: Search, base: RunConfig, trials: Sequence[Trial], root: Path) -> "Found":
        """Of trials whose runs lie in `root`; raises `ValueError` where every one of them diverged."""
        if not any(trial.end == "finished" for trial in trials):
            raise ValueError(f"all {len(trials)} trials diverged; expected a smaller --high, or a smaller optim.lr")
        if search.objective == "loss":
            return cls(search, base, trials, "loss", "Loss: mean over the last tenth of the steps.")
        best = min((trial for trial in trials if trial.end == "finished"), key=lambda trial: trial.value)
        job = jobs_of(search, base, best.number, best.stds, best.step)[0]
        scores = read_scores(run_of(job, root), job.scoring, best.step)
        name = shown_name("fid", scores)
        return cls(search, base, trials, name, f"{name}: in {scores['fid'].label}.")

    @property
    def finished(self) -> list[Trial]:
        """Trials that went to the end, the best first."""
        return sorted((trial for trial in self.trials if trial.end == "finished"), key=lambda trial: trial.value)

    @property
    def noise(self) -> float | None:
        """Standard deviation over seeds, pooled over finished trials; None with one seed per trial."""
        found = [variance(trial.values) for trial in self.finished if len(trial.values) > 1]
        return fmean(found) ** 0.5 if found else None


def write_search(found: Found, root: Path, command: str) -> tuple[Path, Result]:
    """Write `best.json` (a scheme for `adaln train --scheme`), `result.json` and `index.html`; returns their folder."""
    folder = search_folder(found.search, found.base, root)
    best = candidate(found.base.scheme, found.finished[0].stds)
    scheme_file = write_atomically(folder / "best.json", canonical_json(encode(best)))
    result = reduce_search(found, scheme_file, command)
    write_page(result.page, folder / "index.html")
    write_atomically(folder / "result.json", json_text(result.data) + "\n")
    return folder, result


def reduce_search(found: Found, scheme_file: Path, command: str) -> Result:
    """The trials as a table, a picture for each role, and a verdict."""
    search, base, verdict, table = found.search, found.base, verdict_of(found), trial_table(found)
    title = f"Std of {', '.join(search.over)} under {base.scheme.name}"
    use = f"adaln train PRESET --scheme {scheme_file} --seed {base.seed + search.seeds}"
    facts: dict[str, str | float | None] = {
        "model": model_name(base.model),
        "data": base.data.path,
        "steps": base.steps,
        "learning rate": base.optim.lr,
        "seeds per trial": search.seeds,
        "trials proposed at once": search.at_once,
        "std over seeds": found.noise,
    }
    sections = [
        Section("Result", [table, "The best start, on a seed that the search has not seen:", Command(use)]),
        Section("Std against score", [figure(found, role) for role in search.over]),
        Section("How this was made", [Command(command), Facts("Every trial", facts)]),
    ]
    data = {
        "title": title,
        "objective": found.objective,
        "best": found.finished[0].number,
        "noise_over_seeds": found.noise,
        "trials": [asdict(trial) for trial in found.trials],
        "verdict": verdict,
    }
    return Result(data, Page(title, verdict, sections), table)


def verdict_of(found: Found) -> list[str]:
    """The best trial, how many others are as good for all that can be told, and what the best of many is worth."""
    best, *others = found.finished
    stds = ", ".join(f"{role} {std:g}" for role, std in best.stds.items())
    count = f"trial {best.number} of {len(found.trials)}"
    lines = [f"Best start: {stds}, with {found.objective} {best.value:.4g} ({count})."]
    if found.noise is None:
        lines.append("One seed per trial: how much of the differences is noise cannot be told (--seeds 2 or more).")
    else:
        reach = 2 * found.noise * (2 / found.search.seeds) ** 0.5
        close = sum(trial.value <= best.value + reach for trial in others)
        lines.append(
            f"Seeds alone move the {found.objective} by {found.noise:.2g} (std): {close} of the other {len(others)}"
            f" finished trials lie within {reach:.2g} of the best, two standard errors of a difference."
        )
    return [*lines, "The best of many looks better than it is: it is to be run on new seeds before it is believed."]


def trial_table(found: Found) -> Table:
    """A row per trial: the finished ones first, the best at the top."""
    ranked = sorted(found.trials, key=lambda trial: (ENDS.index(trial.end), trial.value, trial.number))
    columns = [
        Column("trial"),
        *(Column(f"std of {role}", LETTERS[role], "g") for role in found.search.over),
        Column(found.objective, "lower is better", ".4g"),
        Column("step", format=",d"),
        Column("end"),
    ]
    rows = [[trial.number, *trial.stds.values(), value_cell(trial, found), trial.step, trial.end] for trial in ranked]
    notes = [f"{found.search.seeds} seeds per trial, 95 % t intervals in brackets."] if found.search.seeds > 1 else []
    return Table("Trials", columns, rows, [found.note, *notes])


def value_cell(trial: Trial, found: Found) -> Cell:
    """The objective, with its interval where there are seeds to tell it."""
    if not trial.values:
        return None
    value = Measurement.of(t_interval(trial.values)) if len(trial.values) > 1 else trial.value
    return Marked(value) if trial == found.finished[0] else value


def figure(found: Found, role: str) -> Lines:
    """Objective of the finished trials against the std of one role; the others vary as well."""
    best, *others = found.finished
    seeds = found.search.seeds
    caption = (
        f"{found.objective} of the {len(found.finished)} trials that went to the end, mean over {seeds} seeds"
        f" (n = {seeds}), against the std that W_{LETTERS[role]} started with. {found.note}"
    )
    series = [
        Series(name, [t.stds[role] for t in trials], [t.value for t in trials], joined=False)
        for name, trials in (("trials", others), ("best", [best]))
        if trials
    ]
    x, y = Axis(f"std of {role}", f"start of W_{LETTERS[role]}", "log"), Axis(found.objective, "lower is better")
    return Lines(f"Std of {role} against {found.objective}", caption, x, y, series)
