"""Whose weights are looked at: a network's, tensors by name, those in a file, those of a run's checkpoint."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from adaln.runs import Run, is_run
from adaln.tensors import TensorFile, WeightSet, open_weights

Weights = nn.Module | Mapping[str, Tensor] | Run | str | Path
"""A network, tensors by name, a run, or the path of one, of a file of weights or of a diffusers folder."""


def weights_of(source: Weights, step: int | None = None, weights: WeightSet | None = None) -> Mapping[str, Tensor]:
    """Tensors by name, of a file read when used; of a run those of `checkpoint`, `weights` "model" by default.

    Raises `ValueError` in one line for what is missing or damaged, and for the step of what is no run.
    """
    if run := run_of(source):
        return checkpoint(run, step, weights or "model")[1]
    assert not isinstance(source, Run)
    if step is not None:
        whose = repr(str(source)) if isinstance(source, str | Path) else "weights in memory"
        raise ValueError(f"step {step} of {whose}: a file holds one step only; expected a run")
    if isinstance(source, str | Path):
        return open_weights(Path(source), weights).tensors
    return dict(source.named_parameters()) if isinstance(source, nn.Module) else source


def run_of(source: Weights) -> Run | None:
    """The run that it is, or that lies at its path."""
    if isinstance(source, Run):
        return source
    return Run.open(source) if isinstance(source, str | Path) and is_run(source) else None


def checkpoint(run: Run, step: int | None = None, weights: WeightSet = "ema") -> tuple[int, TensorFile]:
    """A complete checkpoint and its step, the newest by default; `ValueError` naming the checkpoints that there are."""
    saved = checkpoints(run, weights)
    if not saved or step not in (None, *saved):
        wanted = "any step" if step is None else f"step {step}"
        raise ValueError(f"run {str(run.path)!r} has no checkpoint at {wanted}; it has {[*saved] or 'none'}")
    chosen = max(saved) if step is None else step
    return chosen, saved[chosen]


def checkpoints(run: Run, weights: WeightSet) -> dict[int, TensorFile]:
    """The complete checkpoints of a run by step, read when used."""
    return {step: TensorFile(run.folder(step) / f"{weights}.safetensors") for step in run.steps_saved()}
