"""The page of a single run: what it is, how it went, what its conditioning looks like."""

from pathlib import Path
from typing import Any

from adaln.analysis.recorder import read_recording
from adaln.config import model_name, to_dict
from adaln.report import Axis, Block, Column, Facts, Lines, Page, Section, Series, Table
from adaln.runs import Run, read_records
from adaln.studies.figures import histograms


def run_page(run: Run) -> Page:
    """Whatever the run has: loss, scores, distributions, provenance."""
    config, manifest = run.config, run.manifest
    records = read_records(run.path / "metrics.jsonl")
    step = max(run.steps_saved(), default=0)
    summary = f"{model_name(config.model)} under {config.scheme.name}: {step} of {config.steps} steps."
    sections = [Section("Loss", [_loss(records)] if records else ["Nothing logged yet."])]
    scores = sorted(run.path.glob("s*/*.scores.json"))
    if scores:
        sections.append(Section("Scores", [_scores(scores)]))
    recording = read_recording(run.path / "analysis" / "roles.jsonl")
    if recording:
        shown = sorted({record.step for record in recording})
        blocks: list[Block] = list(histograms({config.scheme.name: recording}, shown, config.seed))
        sections.append(Section("Gate, scale and shift over training", blocks))
    sections.append(Section("Config and manifest", [_facts("config", to_dict(config)), _facts("manifest", manifest)]))
    return Page(run.path.name, summary, sections)


def _loss(records: list[dict[str, Any]]) -> Lines:
    steps = [row["step"] for row in records]
    return Lines(
        "Training loss",
        f"Mean loss between log steps (n = {len(steps)} points).",
        Axis("step", "optimiser updates", "log"),
        Axis("loss", "", "log"),
        [Series("loss", steps, [row["loss"] for row in records])],
    )


def _scores(files: list[Path]) -> Table:
    import json

    rows = []
    for file in files:
        for name, score in json.loads(file.read_text(encoding="utf-8"))["scores"].items():
            rows.append(
                [
                    file.name.removesuffix(".scores.json"),
                    name,
                    score["value"],
                    score["low"],
                    score["high"],
                    score["label"],
                ]
            )
    columns = [Column("samples"), Column("score"), Column("value"), Column("low"), Column("high"), Column("features")]
    return Table("Scores", columns, rows, ["95 % intervals."])


def _facts(title: str, row: dict[str, Any], prefix: str = "") -> Facts:
    return Facts(title, dict(_leaves(row)))


def _leaves(row: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    leaves = []
    for key, value in row.items():
        leaves += _leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else [(f"{prefix}{key}", str(value))]
    return leaves
