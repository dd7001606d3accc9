"""Verbs under torchrun: one process answers, and says what a process alone would."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from helpers.command_line import SMALL, data

pytestmark = pytest.mark.slow
MEANS = """
import torch

def means(images: torch.Tensor) -> torch.Tensor:
    return images.float().reshape(len(images), 4, -1).mean(dim=2) / 255
"""
SCORED = [
    *(*SMALL, "--checkpoint-every", "2"),
    *("--evaluate.every", "2", "--evaluate.features", "quarter_means:means", "--evaluate.num-images", "20"),
    *("--evaluate.batch-size", "7", "--evaluate.sampler.solver", "ddim", "--evaluate.sampler.steps", "2"),
    *("--data.held-out", "0.02"),
]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A working directory with features that cost nothing."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "quarter_means", raising=False)
    Path("quarter_means.py").write_text(MEANS)


def by_two(*words: str) -> dict:
    """The one document that a command of two processes prints."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*torchrun, "-m", "adaln", *words, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def test_scores_of_two_processes_are_those_of_one(capsys):
    for name, seed in (("ours", 0), ("theirs", 1)):
        pixels = np.random.default_rng(seed).integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)
        np.savez(f"{name}.npz", arr_0=pixels)
    words = ["evaluate", "ours.npz", "--reference", "theirs.npz", "--features", "quarter_means:means"]
    one, two = data(capsys, *words, "--batch-size", "7"), by_two(*words, "--batch-size", "7")
    assert two["scores"] == one["scores"] and two["scores_file"] == one["scores_file"]


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_a_run_of_two_processes_is_scored_on_the_way_as_that_of_one(capsys, parallel):
    one = data(capsys, "train", "digits", *SCORED, "--root", "one")
    two = by_two("train", "digits", *SCORED, "--root", "two", "--parallel", parallel)
    assert two["metrics"][0]["loss"] == pytest.approx(one["metrics"][0]["loss"], rel=1e-5)
    assert list(two["scores"]) == ["2", "4"]
    for step, scores in one["scores"].items():
        assert two["scores"][step]["fid"] == pytest.approx(scores["fid"], rel=1e-2)
    for ours, theirs in zip(two["held_out_losses"], one["held_out_losses"], strict=True):
        assert ours == theirs | {"loss": pytest.approx(theirs["loss"], rel=1e-5)} and ours["step"] in (2, 4)
    recorded = [(Path(run["run"]) / "analysis" / "roles.jsonl").read_text().splitlines() for run in (one, two)]
    assert [json.loads(line)["step"] for line in recorded[0]] == [json.loads(line)["step"] for line in recorded[1]]
