"""Scores on disk: one file per (run, checkpoint, way of scoring): finished work is never done again."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from adaln.codec import decode, encode, short_hash
from adaln.files import reading, write_atomically
from adaln.metrics import Scores
from adaln.runs import Run
from adaln.sampling import SampleConfig


@dataclass(frozen=True, slots=True)
class Scoring:
    """How a checkpoint is scored: how its samples are drawn, in which features they are seen, and beside what."""

    sample: SampleConfig
    features: str | None = None
    """None: those that the reference suggests, a classifier of its classes for labelled data."""
    reference: str | None = None
    """None: the data that the run learns from."""


def scores_file(run: Run, scoring: Scoring, step: int) -> Path:
    """Where the scores of a checkpoint lie."""
    row = asdict(scoring)
    del row["sample"]["batch_size"]  # no influence on the images
    return run.path / "scores" / f"{step:09d}-{short_hash(row)}.scores.json"


def samples_file(run: Run, scoring: Scoring, step: int) -> Path:
    """Where the samples behind these scores lie."""
    scores = scores_file(run, scoring, step)
    return scores.with_name(scores.name.replace(".scores.json", ".npz"))


def write_scores(run: Run, scoring: Scoring, step: int, scores: Scores) -> None:
    """Keep the scores of a checkpoint."""
    write_atomically(scores_file(run, scoring, step), json.dumps(encode(scores), indent=1) + "\n")


def read_scores(run: Run, scoring: Scoring, step: int) -> Scores:
    """The scores kept by `write_scores`."""
    path = scores_file(run, scoring, step)
    with reading(path, "a file of scores"):
        return decode(Scores, json.loads(path.read_text(encoding="utf-8")))
