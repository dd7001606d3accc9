"""`adaln train`."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from adaln.analysis.recorder import Recorder
from adaln.cli.answer import SILENT, Answer
from adaln.cli.devices import find_device
from adaln.cli.parsing import Flat, parse
from adaln.cli.presets import take_preset
from adaln.config import RunConfig
from adaln.evaluation.checkpoints import check, score_saved, scored_steps, scoring_hook
from adaln.evaluation.files import Scoring, read_scores
from adaln.execution import DEFAULT_EXECUTION, Execution
from adaln.parallel import group_of_torchrun, rank
from adaln.report import Table
from adaln.runs import Run, read_records
from adaln.sampling import SampleConfig
from adaln.training import train
from adaln.views.scores import score_table


@dataclass(frozen=True, slots=True)
class WhileTraining:
    """When a run is sampled (averaged weights) and scored while it trains; its weights are the same without."""

    at: tuple[int, ...] = ()
    """Steps to score, each one with a checkpoint: multiples of checkpoint_every, or the last."""
    every: int | None = None
    """Score every so many steps, and at the end."""
    features: str | None = None
    """inception, dataset-classifier or module:function; default: dataset-classifier if the data has labels."""
    reference: str | None = None
    """What to score against, as in `adaln evaluate`; default: the run's own data."""
    sample: Flat[SampleConfig] = field(default_factory=SampleConfig)


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """Where a run lives and where it computes."""

    config: Flat[RunConfig]
    root: Path = Path("runs")
    """Folder that holds the runs."""
    out: Path | None = None
    """This very folder instead of ROOT/NAME-HASH; a run in it is continued."""
    device: str = "auto"
    """cpu, cuda, mps, or auto: the fastest there is."""
    execution: Flat[Execution] = DEFAULT_EXECUTION
    evaluate: WhileTraining = field(default_factory=WhileTraining)


def train_verb(words: list[str]) -> Answer:
    """PRESET [--model NAME] [--process NAME] [--scheme NAME] [any field]: train a run, or go on with it."""
    preset, config, words = take_preset(words)
    options = parse(TrainOptions, f"train {preset}", words, TrainOptions(config))
    wanted, device = options.evaluate, find_device(options.device)
    scoring = Scoring(wanted.sample, wanted.features, wanted.reference)
    steps = scored_steps(options.config, wanted.at, wanted.every)
    with group_of_torchrun():
        if steps:  # what cannot be scored against is said before anything is written
            check(options.config, scoring, str(device))
        run = Run.create(options.config, options.root, options.out, device)
        lost = train_and_score(run, scoring, steps, options.execution)
        if rank():
            return SILENT
    return trained(run, scoring, steps, lost)


def trained(run: Run, scoring: Scoring, steps: Sequence[int], lost: Sequence[int]) -> Answer:
    """What became of a run, and the scores of its `steps` but for those that are `lost`."""
    last = read_records(run.path / "metrics.jsonl")[-1:]
    scores = {step: read_scores(run, scoring, step) for step in steps if step not in lost}
    data = {"run": str(run.path), "step": run.config.steps, "scheme": run.config.scheme.name, "metrics": last}
    loss = f", loss {last[0]['loss']:.4f}" if last else ""
    shown: list[str | Table] = [f"trained {run.path}: {run.config.steps} steps under {run.config.scheme.name}{loss}"]
    if scores:
        data["scores"] = {step: {name: s.value for name, s in found.scores.items()} for step, found in scores.items()}
        shown.append(score_table(scores))
    if lost:
        shown.append(
            f"not scored: steps {', '.join(map(str, lost))}, whose checkpoints are gone (see keep_checkpoints)"
        )
    return Answer(data, shown)


def train_and_score(run: Run, scoring: Scoring, steps: Sequence[int], execution: Execution) -> list[int]:
    """Train, scoring at `steps` on the way; returns those that could not be: their checkpoints are gone."""
    score_saved(run, scoring, steps)  # first, since training drops old checkpoints
    train(run, [Recorder(run.path / "analysis" / "roles.jsonl"), scoring_hook(run, scoring, steps)], execution)
    return score_saved(run, scoring, steps)
