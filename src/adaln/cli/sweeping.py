"""`adaln sweep`: guidance, weights and steps of the sampler as one map."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from adaln.cli.options import Device, Flat, OpenedFrom, named, parse
from adaln.cli.output import SILENT, Output
from adaln.codec import encode
from adaln.evaluation.scoring import Grid, Scoring
from adaln.metrics import METRICS
from adaln.sampling import SampleConfig


@dataclass(frozen=True, slots=True)
class SweepOptions:
    """Which ways of sampling are tried, and by what they are judged."""

    run: Annotated[OpenedFrom[Path], named("RUN")]
    """A run."""
    over: Grid = field(default_factory=Grid)
    """What is varied."""
    sample: Flat[SampleConfig] = field(default_factory=SampleConfig)
    metric: str = "fid"
    """The score that decides, as in `adaln evaluate`; one that is not of ADM's suite is computed beside it."""
    features: str | None = None
    """inception, dataset-classifier, module:function or a network's folder; default: dataset-classifier if the data has
    labels."""
    reference: str | None = None
    """What to score against, as in `adaln evaluate`; default: the run's own data."""
    step: int | None = None
    """Checkpoint to sample from; default: the newest."""
    out: Path | None = None
    """Folder of page, tables and pictures; default: RUN/analysis/sweep, where scores and samples lie in any case."""
    device: Device = "auto"
    dry_run: bool = False
    """Say how many ways there are and how long they take, and draw nothing."""


def sweep_verb(words: list[str]) -> Output:
    """RUN [--over.guidance W...] [--over.weights ema model] [--over.steps N...]: which way of sampling scores best."""
    options = parse(SweepOptions, "sweep", words)
    METRICS.check(options.metric)

    from adaln.cli.analysing import saved
    from adaln.evaluation.sweep import planned, sweep
    from adaln.parallel import find_device, group_of_torchrun, rank
    from adaln.runs import Run
    from adaln.views.sweep import answer, sweep_section, sweep_table

    run = Run.open(options.run, find_device(options.device))
    scoring = Scoring(options.sample, options.features, options.reference)
    if options.dry_run:
        from adaln.cli.dry_runs import dry_sweep

        return dry_sweep(run, *planned(run, scoring, options.over, options.metric, options.step, makes_reference=False))
    folder = options.out or options.run / "analysis" / "sweep"
    with group_of_torchrun():
        swept = sweep(run, scoring, options.over, options.metric, options.step)
        if rank():
            return SILENT
    data = {
        "answer": answer(swept),
        "best": encode(swept.best.scoring.sample),
        "again": encode(swept.again.scores.scores),
        "ways": [{"sample": encode(w.scoring.sample), "scores": encode(w.scores.scores)} for w in swept.ways],
    }
    return saved(sweep_section(swept), folder, data, [answer(swept), sweep_table(swept)])
