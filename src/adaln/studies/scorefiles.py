"""Scores on disk: one file per (run, checkpoint, way of sampling, features): finished work is never done again."""

import json
from dataclasses import asdict
from pathlib import Path

from adaln.config import short_hash
from adaln.files import write_atomically
from adaln.metrics import Scores
from adaln.runs import Run
from adaln.sampling import SampleConfig

CLASSIFIER = "dataset-classifier"
"""The features that any labelled data has."""


def scores_file(run: Run, sample: SampleConfig, step: int, features: str = CLASSIFIER) -> Path:
    """Where the scores of a checkpoint lie."""
    key = short_hash(asdict(sample) | ({} if features == CLASSIFIER else {"features": features}))
    return run.path / "scores" / f"{step:09d}-{key}.scores.json"


def samples_file(run: Run, sample: SampleConfig, step: int, features: str = CLASSIFIER) -> Path:
    """Where the samples behind these scores lie."""
    scores = scores_file(run, sample, step, features)
    return scores.with_name(scores.name.replace(".scores.json", ".npz"))


def write_scores(run: Run, sample: SampleConfig, step: int, scores: Scores, features: str = CLASSIFIER) -> None:
    """Keep the scores of a checkpoint."""
    write_atomically(scores_file(run, sample, step, features), json.dumps(scores.to_json(), indent=1) + "\n")


def read_scores(run: Run, sample: SampleConfig, step: int, features: str = CLASSIFIER) -> Scores:
    """The scores kept by `write_scores`."""
    return Scores.from_json(json.loads(scores_file(run, sample, step, features).read_text(encoding="utf-8")))
