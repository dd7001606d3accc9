"""`adaln train`."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from adaln.analysis.recorder import Recorder
from adaln.cli.options import Device, Flat, Positional, named, parse, take_preset
from adaln.cli.output import SILENT, Output
from adaln.config import RunConfig
from adaln.evaluation.checkpoints import Scoring, check_scoring, read_scores, score_saved, scored_steps, scoring_hook
from adaln.execution import DEFAULT_EXECUTION, Execution
from adaln.parallel import find_device, group_of_torchrun, rank
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
    """A run from a preset, whose network and process --model NAME and --process NAME change; where it computes."""

    preset: Annotated[Positional[str], named("PRESET")]
    """A preset (adaln presets lists them): the defaults of all that decides the weights."""
    config: Flat[RunConfig]
    root: Path = Path("runs")
    """Folder that holds the runs."""
    out: Path | None = None
    """This very folder instead of ROOT/NAME-HASH; a run in it is continued."""
    device: Device = "auto"
    execution: Flat[Execution] = DEFAULT_EXECUTION
    evaluate: WhileTraining = field(default_factory=WhileTraining)


def train_verb(words: list[str]) -> Output:
    """PRESET [--model NAME] [--process NAME] [--scheme NAME] [any field]: train a run, or go on with it."""
    preset, config, words = take_preset(words)
    options = parse(TrainOptions, "train", words, TrainOptions(preset, config))
    wanted, device = options.evaluate, find_device(options.device)
    scoring = Scoring(wanted.sample, wanted.features, wanted.reference)
    steps = scored_steps(options.config, wanted.at, wanted.every)
    with group_of_torchrun():
        if steps:  # what cannot be scored against is said before anything is written
            check_scoring(options.config, scoring, str(device))
        run = Run.create(options.config, options.root, options.out, device)
        score_saved(run, scoring, steps)  # first, since training drops old checkpoints
        hooks = [Recorder(run.path / "analysis" / "roles.jsonl"), scoring_hook(run, scoring, steps)]
        train(run, hooks, options.execution)
        unscored = score_saved(run, scoring, steps)
        if rank():
            return SILENT
    return trained(run, scoring, steps, unscored)


def trained(run: Run, scoring: Scoring, steps: Sequence[int], unscored: Sequence[int]) -> Output:
    """What became of a run, and the scores of its `steps` but for those whose checkpoints are gone."""
    last = read_records(run.path / "metrics.jsonl")[-1:]
    scores = {step: read_scores(run, scoring, step) for step in steps if step not in unscored}
    data = {"run": str(run.path), "step": run.config.steps, "scheme": run.config.scheme.name, "metrics": last}
    loss = f", loss {last[0]['loss']:.4f}" if last else ""
    shown: list[str | Table] = [f"trained {run.path}: {run.config.steps} steps under {run.config.scheme.name}{loss}"]
    if scores:
        data["scores"] = {
            step: {name: score.value for name, score in row.scores.items()} for step, row in scores.items()
        }
        shown.append(score_table(scores))
    if unscored:
        gone = ", ".join(map(str, unscored))
        shown.append(f"not scored: steps {gone}, whose checkpoints are gone (see keep_checkpoints)")
    return Output(data, shown)
