"""Runs that are stopped, and runs that must be equal."""

import os
import signal

import pytest
import torch

from adaln.runs import Run
from adaln.training import Stopped, train


def stop_after(run: Run, num_steps: int) -> None:
    """Train a run until somebody stops it."""

    def stop(step, model):
        if step + 1 == num_steps:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Stopped, match=f"stopped at step {num_steps} of {run.config.steps}"):
        train(run, [stop])
    assert num_steps in run.steps_saved()


def assert_same_bits(a: Run, b: Run, step: int | None = None) -> None:
    """Two runs have the same checkpoint at a step, by default at their last."""
    ours, theirs = (run.checkpoints.load(step or run.config.steps) for run in (a, b))
    for name, tensors in ours.items():
        assert tensors.keys() == theirs[name].keys()
        assert all(torch.equal(tensor, theirs[name][key]) for key, tensor in tensors.items()), name
