"""Scores on disk: one file per (run, checkpoint, way of sampling), so that finished work is never done again."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

from adaln.config import canonical_json
from adaln.files import write_atomically
from adaln.metrics import Scores
from adaln.runs import Run
from adaln.sampling import SampleConfig


def scores_file(run: Run, sample: SampleConfig, step: int) -> Path:
    """Where the scores of a checkpoint lie."""
    key = hashlib.sha256(canonical_json(asdict(sample)).encode()).hexdigest()[:10]
    return run.path / "scores" / f"{step:09d}-{key}.scores.json"


def samples_file(run: Run, sample: SampleConfig, step: int) -> Path:
    """Where the samples behind these scores lie."""
    scores = scores_file(run, sample, step)
    return scores.with_name(scores.name.replace(".scores.json", ".npz"))


def write_scores(run: Run, sample: SampleConfig, step: int, scores: Scores) -> None:
    """Keep the scores of a checkpoint."""
    write_atomically(scores_file(run, sample, step), json.dumps(scores.to_json(), indent=1) + "\n")


def read_scores(run: Run, sample: SampleConfig, step: int) -> Scores:
    """The scores kept by `write_scores`."""
    return Scores.from_json(json.loads(scores_file(run, sample, step).read_text(encoding="utf-8")))
