"""A run while it is trained: held by one training, taken up where it stands, logged, saved."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict

from adaln.codec import canonical_json
from adaln.config import Schedule
from adaln.execution import DEFAULT_EXECUTION, Execution
from adaln.files import claimed, remove_temporaries, write_atomically
from adaln.parallel import from_first, rank, world
from adaln.runs import Run, append_record, drop_from
from adaln.runs.manifest import describe_data, describe_parameters, environment
from adaln.training.state import TrainState
from adaln.types import NonFinite, OnLog


@contextmanager
def exclusive(run: Run) -> Iterator[None]:
    """Hold the run: a second process that wants to train it waits a little, then gets one clear line."""
    if rank():
        yield  # the first process holds it for all
        return
    refusal = f"run {str(run.path)!r} is being trained by another process"
    with claimed(run.path / ".lock", refusal):
        try:
            yield
        finally:
            run.checkpoints.wait()  # what is still being written belongs to the run


def resume_or_start(run: Run, execution: Execution = DEFAULT_EXECUTION) -> TrainState:
    """The newest complete checkpoint's state, else a fresh one; opens a session in the manifest. Of several processes
    the first one decides and writes.

    Raises `ValueError` where the data is not what the run began with.
    """
    is_sharded = execution.parallel == "fsdp"
    state = TrainState(run.new_model(), run.config.optim, is_sharded, run.config.precision)
    saved = from_first(run.steps_saved)
    if saved:
        state.load(run.checkpoints.load(saved[-1]), str(run.folder(saved[-1])))
    if rank() == 0:
        remove_temporaries(run.path)
        run.checkpoints.clear()
        drop_from(run.path / "metrics.jsonl", state.step + 1)
        open_session(run, state, execution)
    return state


def open_session(run: Run, state: TrainState, execution: Execution) -> None:
    """An entry in the manifest: where, with what and how the run is trained from here on."""
    manifest, data = run.manifest, describe_data(run.dataset)
    began_with = manifest.get("data", data)["fingerprint"]
    if began_with != data["fingerprint"]:
        raise ValueError(
            f"run {str(run.path)!r} began with data {began_with[:12]}, {run.config.data.path!r} now is"
            f" {data['fingerprint'][:12]}: the images or labels have changed"
        )
    how = {"precision": run.config.precision, "processes": world(), "execution": asdict(execution)}
    session = {"from_step": state.step, **environment(run.device), **how}
    row = {
        "data": data,
        "parameters": describe_parameters(state.model, run.config.scheme),
        "seed": run.config.seed,
        "sessions": [*manifest.get("sessions", []), session],
    }
    write_atomically(run.path / "manifest.json", canonical_json(row))


def log_if_due(run: Run, state: TrainState, on_log: Sequence[OnLog] = ()) -> None:
    """A line of metrics.jsonl, then the same to `on_log`: mean loss since the last line, the newest gradient norm, and
    the newest learning rate where it is not constant."""
    since = state.step % run.config.log_every or run.config.log_every
    if since != run.config.log_every and state.step != run.config.steps:
        return
    state.check_finite()
    metrics = {"loss": state.mean_loss_sum().item() / since, "grad_norm": state.grad_norm().item()}
    if run.config.optim.schedule != Schedule():
        metrics["lr"] = state.learning_rate(state.step - 1)
    if rank() == 0:
        append_record(run.path / "metrics.jsonl", {"step": state.step, **metrics})
        for log in on_log:
            log(state.step, metrics)
    if since == run.config.log_every:
        state.loss_sum.zero_()


def save_if_due(run: Run, state: TrainState) -> None:
    """Begin to save at the chosen steps and at the end; raises what went wrong with the save before."""
    run.checkpoints.raise_failure()
    config = run.config
    if state.step % config.checkpoint_every == 0 or state.step in (*config.keep_at, config.steps):
        begin_to_save(run, state)


def save(run: Run, state: TrainState) -> None:
    """Save, and return when that is done."""
    begin_to_save(run, state)
    run.checkpoints.settle()


def begin_to_save(run: Run, state: TrainState) -> None:
    """Copy the state, which must be finite, for a thread to write."""
    state.check_finite()
    bad = state.not_finite()
    if bad:
        raise NonFinite(f"step {state.step}: {bad} is not finite")
    state.mean_loss_sum()
    if rank() == 0 or state.is_sharded:
        run.checkpoints.save(state.step, state.tensors())
