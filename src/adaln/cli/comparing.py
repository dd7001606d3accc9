"""`adaln compare`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from adaln.cli.options import OpenedFrom, named, parse
from adaln.cli.output import Output
from adaln.config import differing_fields
from adaln.report import Cell, Column, Marked, Table

if TYPE_CHECKING:
    import adaln.metrics
    import adaln.runs


@dataclass(frozen=True, slots=True)
class CompareOptions:
    """What is compared, and how strictly."""

    names: Annotated[OpenedFrom[tuple[str, ...]], named("RUN...")]
    """Two runs or more (or files of their scores)."""
    strict: bool = False
    """Stop with exit code 2 where scores are missing or not comparable, instead of saying so."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One of the compared: a run with the scores chosen of it, or scores alone."""

    name: str
    run: "adaln.runs.Run | None"
    scores: "adaln.metrics.Scores | None"


def compare_verb(words: list[str]) -> Output:
    """RUN-OR-SCORES RUN-OR-SCORES...: configs, losses and scores side by side, and what makes scores incomparable."""
    options = parse(CompareOptions, "compare", words)
    if len(options.names) < 2:
        raise ValueError(f"expected two runs or more (or files of their scores), got {len(options.names)}")
    entries = open_entries(options.names)
    first, others = entries[0], entries[1:]
    conflicts = {entry.name: score_conflicts(first, entry) for entry in others}
    if options.strict and any(conflicts.values()):
        reasons = "; ".join(f"{name}: {', '.join(choices)}" for name, choices in conflicts.items() if choices)
        raise ValueError(f"scores are not comparable with those of {first.name}: {reasons}")
    configs = {
        entry.name: differing_fields(first.run.config, entry.run.config) for entry in others if first.run and entry.run
    }

    from adaln.metrics import METRICS, unlike_published

    apart = {entry.name: unlike_published(entry.scores) for entry in entries if entry.scores}
    metrics = [name for name in METRICS if any(entry.scores and name in entry.scores.scores for entry in entries)]
    data = {
        "runs": [_row(entry, metrics) for entry in entries],
        "config_differences": configs,
        "score_conflicts": conflicts,
        "unlike_published": apart,
        "notes": score_notes(entries),
    }
    lines = [
        f"{name} differs from {first.name} in: {'; '.join(fields) or 'nothing'}" for name, fields in configs.items()
    ]
    lines += [verdict(first, entry, conflicts[entry.name]) for entry in others if first.scores or entry.scores]
    return Output(data, [_table(entries, metrics, conflicts), *lines])


def open_entries(names: Sequence[str]) -> list[Entry]:
    """What the names stand for; of a run's scores those of its last scored step, chosen to fit the first's.

    Raises `ValueError` for a name that is neither a run nor a file of scores.
    """
    from adaln.evaluation.checkpoints import read_score_file
    from adaln.runs import Run, is_run
    from adaln.views.scores import scores_of

    entries: list[Entry] = []
    for name in names:
        wanted = entries[0].scores if entries else None
        if is_run(name) or not Path(name).is_file():
            run = Run.open(name)
            entries.append(Entry(run.path.name, run, chosen(scores_of(run), wanted)))
        else:
            entries.append(Entry(name, None, read_score_file(Path(name))))
    return entries


def chosen(kept: "list[adaln.metrics.Scores]", wanted: "adaln.metrics.Scores | None") -> "adaln.metrics.Scores | None":
    """Of the scores kept those most like `wanted`, of these the last step's, of these the newest; None of none."""

    from adaln.metrics import Scores, differences
    from adaln.views.scores import step_of

    def key(item: tuple[int, Scores]) -> tuple[int, int, int]:
        age, scores = item
        step = step_of(scores)
        return len(differences(wanted, scores)) if wanted else 0, -(-1 if step is None else step), -age

    return min(enumerate(kept), key=key)[1] if kept else None


def score_conflicts(first: Entry, entry: Entry) -> list[str]:
    """What keeps the scores of two from being compared; nothing: they may be."""
    from adaln.metrics import differences

    without = [s.name for s in (first, entry) if s.scores is None]
    if without or first.scores is None or entry.scores is None:
        return [f"{name} is not scored yet (adaln evaluate)" for name in without]
    return differences(first.scores, entry.scores)


def verdict(first: Entry, entry: Entry, conflicts: list[str]) -> str:
    """One sentence: comparable or not, because of what, and whether the steps differ."""
    from adaln.metrics import rounding_differences
    from adaln.views.scores import step_of

    pair = f"scores of {entry.name} are {'NOT ' if conflicts else ''}comparable with those of {first.name}"
    if conflicts:
        return f"{pair}: {'; '.join(conflicts)}"
    if first.scores and entry.scores and (apart := rounding_differences(first.scores, entry.scores)):
        pair += f", up to the rounding of {'; '.join(apart)}"
    steps = [step_of(s.scores) for s in (first, entry) if s.scores]
    return pair if steps[0] == steps[1] else f"{pair}, but of different steps: {steps[0]}, {steps[1]}"


def _table(entries: list[Entry], metrics: list[str], conflicts: dict[str, list[str]]) -> Table:
    from adaln.views.scores import BRACKETS, score_cell, score_column

    scored = [entry.scores for entry in entries if entry.scores]
    columns = [Column("run"), Column("scheme"), Column("parameters", format=",d"), Column("step", format=",d")]
    columns += [
        Column("loss", format=".4f"),
        Column("scored at", "step", ",d"),
        *(score_column(name, scored[0]) for name in metrics),
    ]
    rows = []
    for entry in entries:
        cells: list[Cell] = [score_cell(entry.scores.scores.get(name)) if entry.scores else None for name in metrics]
        if conflicts.get(entry.name):
            cells = [Marked(cell, "warning") if not isinstance(cell, Marked | None) else cell for cell in cells]
        rows.append([*list(_row(entry, []).values()), *cells])
    labels = dict.fromkeys(score.label for entry in entries if entry.scores for score in entry.scores.scores.values())
    notes = ["Loss: mean over the last tenth of the log.", *([BRACKETS, *labels] if metrics else [])]
    return Table("Runs", columns, rows, notes, footnotes=score_notes(entries))


def score_notes(entries: Sequence[Entry]) -> list[str]:
    """What a reader of the scores must know, by whose they are."""
    return [f"{entry.name}: {note}" for entry in entries if entry.scores for note in entry.scores.notes]


def _row(entry: Entry, metrics: list[str]) -> dict[str, Any]:
    """Plain values: what it is, how far it is, its scores."""
    from adaln.metrics import METRICS
    from adaln.views.scores import step_of

    run = entry.run
    row = {
        "run": entry.name,
        "scheme": run.config.scheme.name if run else None,
        "parameters": run.manifest.get("parameters", {}).get("trained") if run else None,
        "step": max(run.steps_saved(), default=0) if run else None,
        "loss": _loss(run) if run else None,
        "scored at": step_of(entry.scores) if entry.scores else None,
    }
    values = entry.scores.scores if entry.scores else {}
    return row | {METRICS[name].title: values[name].value if name in values else None for name in metrics}


def _loss(run: "adaln.runs.Run") -> float | None:
    records = run.metrics()
    tail = records[-max(1, len(records) // 10) :]
    return sum(record["loss"] for record in tail) / len(tail) if tail else None
