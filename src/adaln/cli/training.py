"""`adaln train`."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from adaln.cli.options import Device, Flat, Positional, is_folder, named, parse, take_preset
from adaln.cli.output import SILENT, Output
from adaln.config import RunConfig
from adaln.evaluation.scoring import Scoring
from adaln.report import Table
from adaln.sampling import SampleConfig
from adaln.specs import DEFAULT_EXECUTION, Execution

if TYPE_CHECKING:
    import adaln.runs


@dataclass(frozen=True, slots=True)
class WhileTraining:
    """When a run is sampled (averaged weights) and scored while it trains; its weights are the same without."""

    at: tuple[int, ...] = ()
    """Steps to score, each one with a checkpoint: multiples of checkpoint_every, or the last."""
    every: int | None = None
    """Score every so many steps, and at the end."""
    loss_every: int | None = None
    """Take the held-out loss every so many steps, and at the end: without sampling. At scored steps it is taken too."""
    features: str | None = None
    """inception, dataset-classifier, module:function or a network's folder; default: dataset-classifier if the data has
    labels."""
    reference: str | None = None
    """What to score against, as in `adaln evaluate`; default: the run's own data."""
    sample: Flat[SampleConfig] = field(default_factory=SampleConfig)


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """Trains a run from a preset, or goes on with it: what was stopped or killed goes on with the same command."""

    preset: Annotated[Positional[str], named("PRESET|RUN")]
    """A preset (adaln presets lists them), or a run's folder: that run goes on, or, with another field, a run begins
    that is like it but for that."""
    config: Flat[RunConfig]
    root: Path = Path("runs")
    """Folder that holds the runs."""
    out: Path | None = None
    """This very folder instead of ROOT/NAME-HASH; a run in it is continued."""
    device: Device = "auto"
    track: str = ""
    """Who follows the run besides its metrics.jsonl: tensorboard, wandb, trackio, mlflow, or what a plug-in brings,
    with commas between."""
    execution: Flat[Execution] = DEFAULT_EXECUTION
    evaluate: WhileTraining = field(default_factory=WhileTraining)
    dry_run: bool = False
    """Say which run it would be, and its time, disk and memory, and train nothing."""


def train_verb(words: list[str]) -> Output:
    """PRESET|RUN [--model NAME] [--process NAME] [--scheme NAME] [any field]: train a run, or go on with it."""
    preset, config, words = take_preset(words)
    root = Path(preset).parent if is_folder(preset) else Path("runs")
    options = parse(TrainOptions, "train", words, TrainOptions(preset, config, root))
    if is_folder(preset) and not options.out and options.config == replace(config, steps=options.config.steps):
        options = replace(options, out=Path(preset))  # nothing but its length is changed: it goes on
    wanted = options.evaluate
    scoring = Scoring(wanted.sample, wanted.features, wanted.reference)

    from adaln.evaluation.checkpoints import train
    from adaln.evaluation.steps import loss_steps, scored_steps
    from adaln.parallel import group_of_torchrun, rank
    from adaln.runs import Run
    from adaln.views.run_page import write_run_page

    if is_folder(preset) and options.config.data.path == config.data.path:  # wherever it was begun
        place = Run.open(preset).data.path
        options = replace(options, config=replace(options.config, data=replace(options.config.data, path=place)))
    steps = scored_steps(options.config, wanted.at, wanted.every)
    if scoring != Scoring(SampleConfig()) and not steps:
        raise ValueError(
            "--evaluate.* say how to score, and none when; expected --evaluate.every N (or --evaluate.at) too"
        )
    loss_at = loss_steps(options.config, scored_steps(options.config, (), wanted.loss_every, "loss_every"), steps)
    if options.dry_run:
        return dry_training(options, scoring, steps)
    with group_of_torchrun(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "not scored")  # said below
        run = train(
            options.config,
            options.out,
            options.device,
            root=options.root,
            execution=options.execution,
            track=[name for name in options.track.split(",") if name],
            score_at=steps,
            scoring=scoring,
            loss_at=loss_at,
            page=write_run_page,
        )
        if rank():
            return SILENT
    return trained(run, scoring, steps, loss_at)


def dry_training(options: TrainOptions, scoring: Scoring, steps: Sequence[int]) -> Output:
    """What would be trained, by the config and the data alone."""
    from adaln.cli.dry_runs import dry_run
    from adaln.parallel import find_device
    from adaln.runs import Run
    from adaln.studies import Job

    device = find_device(options.device)
    run = Run.planned(options.config, options.root, options.out, device)
    job = Job("", run.config, tuple(steps), scoring.sample, scoring.features, scoring.reference)
    return dry_run([job], run.path.parent, device, 1, run)


def trained(run: "adaln.runs.Run", scoring: Scoring, steps: Sequence[int], loss_at: Sequence[int] = ()) -> Output:
    """What became of a run, the scores of its `steps` and its losses, but for those whose checkpoints are gone."""
    from adaln.evaluation.checkpoints import is_scored, read_scores
    from adaln.evaluation.held_out import has_losses, take_losses
    from adaln.evaluation.steps import unscored_line
    from adaln.metrics import start_left
    from adaln.sampling import start_in_average
    from adaln.views.losses import course_table
    from adaln.views.scores import score_table

    unscored = [step for step in steps if not is_scored(run, scoring, step)]
    losses = [loss for step in loss_at if has_losses(run, step) for loss in take_losses(run, step).values()]
    last, step = run.metrics()[-1:], max(run.steps_saved(), default=0)
    scores = {step: read_scores(run, scoring, step) for step in steps if step not in unscored}
    data = {"run": str(run.path), "step": step, "scheme": run.config.scheme.name, "metrics": last}
    data["data"] = run.manifest["data"]
    loss = f", loss {last[0]['loss']:.4f}" if last else ""
    done = f"trained {run.path}: {step} steps under {run.config.scheme.name}{loss}"
    if step > run.config.steps:
        done = f"{run.path} is at step {step} already, {run.config.steps} were asked for: nothing to do{loss}"
    shown: list[str | Table] = [done]
    if scores:
        data["scores"] = {
            step: {name: score.value for name, score in row.scores.items()} for step, row in scores.items()
        }
        shown.append(score_table(scores))
    if losses:
        data["held_out_losses"] = [{"step": of.step, "weights": of.weights, "loss": of.mean.value} for of in losses]
        shown.append(course_table(losses))
    if unscored:
        shown.append(unscored_line(unscored))
    if left := start_left({"step": step, "start_in_average": start_in_average(run, step)}):
        shown.append(left)
    return Output(data, shown)
