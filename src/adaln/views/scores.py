"""The scores of one run against its steps: what was measured alike makes one curve."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from adaln.codec import short_hash
from adaln.data import Dataset
from adaln.evaluation.checkpoints import read_score_file
from adaln.evaluation.samples import WEIGHTS
from adaln.files import oldest_first
from adaln.metrics import METRICS, Score, Scores, differences
from adaln.report import Axis, Block, Column, Lines, Measurement, Series, Table
from adaln.runs import Run

BRACKETS = "Brackets: 95 % intervals. ↓ lower, ↑ higher is better."
INCEPTIONS = {"fid": "FID", "sfid": "sFID", "is": "IS"}
"""Scores whose names promise Inception features, and their short forms."""
Curve = dict[int, Scores]
"""Scores by step, ascending."""


def scores_of(run: Run) -> list[Scores]:
    """All scores in a run's folder, the oldest first: those that its training and `evaluate` have left there.

    >>> import adaln
    >>> from tempfile import mkdtemp
    >>> adaln.scores_of(adaln.train(adaln.preset("digits", steps=2), mkdtemp()))  # nothing was scored
    []
    """
    return [read_score_file(file) for file in oldest_first(run.path.glob("s*/*.scores.json"))]


def scores_beside(source: Path | Dataset, scores: Scores) -> Path:
    """Where scores lie beside any samples, for a data set here; another way of scoring has another name."""
    record = scores.provenance
    row = {side: record[side]["sha256"] for side in ("samples", "reference", "validation") if side in record}
    features = [record["extractor"][name] for name in ("name", "fingerprint")]
    key = short_hash(row | {"extractor": features, "settings": record["settings"]})
    if isinstance(source, Dataset):
        return Path(f"{source.name}-{key}.scores.json")
    return source.with_name(f"{source.name if source.is_dir() else source.stem}-{key}.scores.json")


def mean_ratio(by_features: Sequence[Scores]) -> tuple[float | None, list[str]]:
    """The mean of FDr over feature spaces, and a line that says so; nothing without a validation set."""
    ratios = {str(of.provenance["extractor"]["name"]): of["fdr"].value for of in by_features if "fdr" in of.scores}
    if not ratios:
        return None, []
    mean = sum(ratios.values()) / len(ratios)
    each = ", ".join(f"{name} {ratio:.3f}" for name, ratio in ratios.items())
    return mean, [f"FDr, the mean over {len(ratios)} feature spaces: {mean:.3f} ({each})"]


def step_of(scores: Scores) -> int | None:
    """The step of the checkpoint that was scored, where that is recorded."""
    step = scores.provenance["choices"].get("step")
    return step if isinstance(step, int) else None


def score_curves(found: Sequence[Scores]) -> list[Curve]:
    """Scores that are comparable with each other as one curve; of several at one step the newest counts."""
    curves: list[dict[int, Scores]] = []
    for scores in found:
        alike = next((curve for curve in curves if not differences(next(iter(curve.values())), scores)), None)
        if alike is None:
            curves.append(alike := {})
        alike[-1 if (step := step_of(scores)) is None else step] = scores
    return [dict(sorted(curve.items())) for curve in curves]


def score_blocks(found: Sequence[Scores]) -> list[Block]:
    """For each way of scoring a table of all its scores and, from two steps on, a curve of each."""
    blocks: list[Block] = []
    for curve in score_curves(found):
        blocks.append(score_table(curve))
        if len(curve) > 1:
            blocks += [_lines(name, curve) for name in next(iter(curve.values())).scores]
    return blocks


def score_table(curve: Mapping[int, Scores]) -> Table:
    """A row per step, a column per score with its interval."""
    first = next(iter(curve.values()))
    names = list(first.scores)
    columns = [Column("step", format=",d"), *(score_column(name, first) for name in names)]
    rows: list[list[Any]] = [
        [step if step >= 0 else None, *(score_cell(scores.scores.get(name)) for name in names)]
        for step, scores in curve.items()
    ]
    notes = dict.fromkeys(note for scores in curve.values() for note in scores.notes)
    return Table(f"Scores: {protocol(first)}", columns, rows, [_label(first), BRACKETS], footnotes=list(notes))


def protocol(scores: Scores) -> str:
    """How the samples came about, in a few words."""
    choices, samples = scores.provenance["choices"], scores.provenance["samples"]
    words = [f"{samples['num_images']:,} samples"]
    if sampler := choices.get("sampler"):
        words.append(f"{sampler['solver']} in {sampler['steps']} steps")
    if guidance := choices.get("guidance"):
        words.append(f"guidance {guidance['scale']:g}")
    if labels := choices.get("labels"):
        words.append(f"{labels} labels")
    if weights := WEIGHTS.get(choices.get("weights", "")):
        words.append(weights)
    return ", ".join(words)


def _label(scores: Scores) -> str:
    return next(iter(scores.scores.values())).label if scores.scores else ""


def shown_name(name: str, scores: Scores) -> str:
    """A score's short name where it is seen without its label: in other features than Inception's, FID is FID-like."""
    if name not in INCEPTIONS:
        return METRICS[name].title
    return INCEPTIONS[name] + ("" if scores.provenance["extractor"]["name"] == "inception" else "-like")


def score_column(name: str, scores: Scores) -> Column:
    """The column of a score in any table of scores that were measured alike."""
    metric = METRICS[name]
    arrow = "↓" if metric.better == "lower" else "↑"
    return Column(f"{shown_name(name, scores)} {arrow}", format=f".{metric.digits}f")


def score_cell(score: Score | None) -> Measurement | float | None:
    """A score with its interval, where it has one."""
    return None if score is None else score.cell


def _lines(name: str, curve: Curve) -> Lines:
    found = {step: scores.scores[name] for step, scores in curve.items() if name in scores.scores}
    first = next(iter(curve.values()))
    banded = all(score.low is not None for score in found.values())
    low, high = ([getattr(s, end) for s in found.values()] for end in ("low", "high"))
    caption = (
        f"n = {len(found)} checkpoints; {protocol(first)}; {_label(first)}."
        f"{' The band is the 95 % interval of each point.' if banded else ''}"
    )
    series = Series(name, list(found), [s.value for s in found.values()], *((low, high) if banded else ()))
    title, better = shown_name(name, first), METRICS[name].better
    axes = Axis("step", "optimiser updates"), Axis(title, f"{better} is better")
    return Lines(f"{title} against steps", caption, *axes, [series])
