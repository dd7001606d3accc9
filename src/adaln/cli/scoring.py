"""`adaln evaluate` and `adaln compare`."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from adaln.cli.answer import Answer
from adaln.cli.parsing import parse, take_word, wants_help
from adaln.cli.progress import told
from adaln.config import differing_fields
from adaln.data import DataConfig, Dataset, default_cache, load
from adaln.files import write_atomically
from adaln.metrics import (
    METRICS,
    LabelledImages,
    Scores,
    differences,
    evaluate,
    load_extractor,
)
from adaln.report import Column, Measurement, Table
from adaln.runs import Run, read_records


@dataclass(frozen=True, slots=True)
class EvaluateOptions:
    """What to compare with, and in which feature space."""

    reference: str
    """An ADM npz, a statistics file, a folder or zip of images, a run (its data), or `digits`."""
    features: str = "dataset-classifier"
    """inception, dataset-classifier (trained once on the reference, which must have labels), or module:function."""
    metrics: tuple[str, ...] = ()
    """Scores to compute; default: all of ADM's that the features allow."""
    num_images: int | None = None
    """Take the first so many samples."""
    weights: Path | None = None
    """Inception weights, instead of those fetched once and cached."""
    batch_size: int = 64
    """Images per forward of the feature network."""
    replicates: int = 200
    """Bootstrap replicates behind the intervals."""
    out: Path | None = None
    """Where the JSON goes; default: SAMPLES.scores.json."""


def evaluate_verb(words: list[str]) -> Answer:
    """SAMPLES --reference REF [--features F] [--metrics M ...]: FID, sFID, IS, precision, recall with intervals."""
    if wants_help(words):
        parse(EvaluateOptions, "evaluate SAMPLES", ["--help"])
    samples, words = take_word(words, "samples (.npz, folder, zip or run)")
    options = parse(EvaluateOptions, "evaluate SAMPLES", words)
    source = newest_samples(Path(samples)) if (Path(samples) / "config.json").exists() else Path(samples)
    if not source.exists():
        raise ValueError(f"samples {str(source)!r} do not exist")
    dataset = _labelled(options.reference)
    images = None if dataset is None else np.asarray(dataset.images)
    labelled = None if images is None or dataset is None else LabelledImages(images, dataset.labels)
    with told() as tell:
        extractor = load_extractor(
            options.features, cache=default_cache(), data=labelled, weights=options.weights, progress=tell
        )
        scores = evaluate(
            source,
            options.reference if images is None else images.transpose(0, 2, 3, 1),
            extractor,
            options.metrics or None,
            num_images=options.num_images,
            batch_size=options.batch_size,
            replicates=options.replicates,
            choices=_choices(source),
            progress=tell,
        )
    out = options.out or source.with_name(f"{source.stem}.scores.json")
    write_atomically(out, json.dumps(scores.to_json(), indent=1) + "\n")
    return Answer({"scores_file": str(out), **scores.to_json()}, [scores_table(scores, source.name), f"wrote {out}"])


def newest_samples(run: Path) -> Path:
    """The samples of a run that were written last; `ValueError` where it has none."""
    found = sorted((run / "samples").glob("*.npz"), key=lambda file: file.stat().st_mtime)
    if not found:
        raise ValueError(f"run {str(run)!r} has no samples yet; draw some with: adaln sample {run}")
    return found[-1]


def _labelled(reference: str) -> Dataset | None:
    """The data set behind a reference, where it is a run or something with labels."""
    path = Path(reference)
    if (path / "config.json").exists():
        return Run.open(path).dataset
    if reference == "digits" or path.is_dir() or path.suffix == ".zip":
        dataset = load(DataConfig(path=reference))
        return dataset if dataset.class_names else None
    return None


def _choices(samples: Path) -> dict[str, Any]:
    """What the record beside the samples says of how they were drawn."""
    record = samples.with_suffix(".json")
    found: dict[str, Any] = json.loads(record.read_text(encoding="utf-8")) if record.exists() else {}
    return found


def scores_table(scores: Scores, title: str) -> Table:
    """Scores as people read them, each with its interval."""
    rows = [
        [
            name,
            s.value if s.low is None or s.high is None else Measurement(s.value, s.low, s.high),
            s.num_samples,
            s.num_reference,
        ]
        for name, s in scores.scores.items()
    ]
    label = next(iter(scores.scores.values())).label
    return Table(
        f"Scores of {title}",
        [
            Column("score"),
            Column("value", "95 % interval"),
            Column("samples", format=",d"),
            Column("reference", format=",d"),
        ],
        rows,
        notes=[label],
        footnotes=scores.notes,
    )


@dataclass(frozen=True, slots=True)
class CompareOptions:
    """How runs are compared."""


def compare_verb(words: list[str]) -> Answer:
    """RUN RUN...: configs, losses and scores side by side, and which choices make scores incomparable."""
    paths = [word for word in words if not word.startswith("-")]
    parse(CompareOptions, "compare RUN RUN...", [word for word in words if word.startswith("-")])
    if len(paths) < 2:
        raise ValueError(f"expected two runs or more, got {len(paths)}")
    runs = [Run.open(path) for path in paths]
    scores = [_newest_scores(run) for run in runs]
    metrics = [name for name in METRICS if any(s and name in s.scores for s in scores)]
    differing = {run.path.name: differing_fields(runs[0].config, run.config) for run in runs[1:]}
    conflicts = {
        run.path.name: differences(scores[0], other)
        for run, other in zip(runs[1:], scores[1:], strict=True)
        if scores[0] and other
    }
    rows = [_row(run, s, metrics) for run, s in zip(runs, scores, strict=True)]
    columns = [
        Column("run"),
        Column("scheme"),
        Column("parameters", format=",d"),
        Column("step", format=",d"),
        Column("loss", format=".4f"),
    ]
    table = Table("Runs", [*columns, *(Column(METRICS[name].title) for name in metrics)], rows)
    lines = [
        f"{name} differs from {runs[0].path.name} in: {'; '.join(found) or 'nothing'}"
        for name, found in differing.items()
    ]
    lines += [
        f"scores of {name} are NOT comparable with those of {runs[0].path.name}: {'; '.join(found)}"
        for name, found in conflicts.items()
        if found
    ]
    data = {"runs": [dict(zip([c.name for c in table.columns], row, strict=True)) for row in rows]}
    return Answer({**data, "config_differences": differing, "score_conflicts": conflicts}, [table, *lines])


def _row(run: Run, scores: Scores | None, metrics: list[str]) -> list[Any]:
    records = read_records(run.path / "metrics.jsonl")
    tail = records[-max(1, len(records) // 10) :]
    loss = sum(record["loss"] for record in tail) / len(tail) if tail else None
    values = [scores.scores[name].value if scores and name in scores.scores else None for name in metrics]
    parameters = run.manifest.get("parameters", {}).get("trained")
    return [run.path.name, run.config.scheme.name, parameters, max(run.steps_saved(), default=0), loss, *values]


def _newest_scores(run: Run) -> Scores | None:
    found = sorted(run.path.glob("s*/*.scores.json"), key=lambda file: file.stat().st_mtime)
    return Scores.from_json(json.loads(found[-1].read_text(encoding="utf-8"))) if found else None
