"""A run trained to its end: recorded, scored and tracked on the way."""

from collections.abc import Sequence
from pathlib import Path

from adaln import training
from adaln.analysis.recorder import Recorder
from adaln.config import RunConfig
from adaln.evaluation.checkpoints import Scoring, check_scoring, score_saved, scoring_hook
from adaln.execution import DEFAULT_EXECUTION, Execution
from adaln.parallel import find_device, group_of_torchrun, rank
from adaln.runs import Run
from adaln.sampling import SampleConfig
from adaln.training import TRACKERS
from adaln.types import Hook, OnLog


def train(
    config: RunConfig,
    out: Path | str | None = None,
    device: str = "auto",
    hooks: Sequence[Hook] = (),
    on_log: Sequence[OnLog] = (),
    *,
    root: Path | str = "runs",
    execution: Execution = DEFAULT_EXECUTION,
    track: Sequence[str] = (),
    score_at: Sequence[int] = (),
    scoring: Scoring | None = None,
) -> Run:
    """Train a run to its end, or go on with it: what `adaln train` does, in the folder `out` or ROOT/NAME-HASH.

    `hooks` are called as `hook(step, model)` in every step, after the backward pass and before the optimiser, `on_log`
    as `on_log(step, metrics)` with every line of metrics.jsonl: the mean loss since the line before, the norm of the
    gradient. `track` names registered trackers. At the steps `score_at`, which need a checkpoint, the averaged weights
    are sampled and scored as `scoring` says. Distributions of gate, scale and shift are recorded at steps that are
    evenly spaced in their logarithm. Under torchrun all processes train one run. Ctrl-C saves and raises
    `KeyboardInterrupt`; the same call goes on.

    Raises `ValueError` before anything is written for data, network, process and scheme that do not fit each other and
    for a folder that holds another run, and `NonFinite` for a loss or gradient that is not finite.
    """
    make_trackers = [TRACKERS[name] for name in track]
    scoring, computing = scoring or Scoring(SampleConfig()), find_device(device)
    with group_of_torchrun():
        if score_at:  # what cannot be scored against is said before anything is written
            check_scoring(config, scoring, str(computing))
        run = Run.create(config, Path(root), None if out is None else Path(out), computing)
        score_saved(run, scoring, score_at)  # first, since training drops old checkpoints
        hooks = [Recorder(run.path / "analysis" / "roles.jsonl"), *hooks, scoring_hook(run, scoring, score_at)]
        trackers = [make(run) for make in make_trackers if rank() == 0]
        training.train(run, hooks, execution, [*on_log, *(tracker.on_log for tracker in trackers)])
        score_saved(run, scoring, score_at)
    return run
