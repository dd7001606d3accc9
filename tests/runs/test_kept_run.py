"""A run of 0.1.0 (commit ab29aad), kept as data: what is on users' disks is read and continued.

Made by `adaln train` with the words `COMMAND`: to step 5 with `--evaluate.at 5 --evaluate.num-images 20
--evaluate.sampler.steps 4`, copied, then to step 10.
"""

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file
from torch.testing import assert_close

from adaln.cli import main

KEPT = Path(__file__).parents[1] / "goldens" / "run"
COMMAND = [
    *[
        "train",
        "digits",
        "--name",
        "kept",
        "--model.hidden-size",
        "8",
        "--model.depth",
        "2",
        "--model.num-heads",
        "2",
        "--scheme",
        "adaln-mix",
    ],
    *[
        "--batch-size",
        "8",
        "--log-every",
        "2",
        "--checkpoint-every",
        "5",
        "--keep-checkpoints",
        "0",
        "--optim.ema-decay",
        "0.9",
    ],
    *("--device", "cpu"),
]


@pytest.fixture
def kept(tmp_path):
    return Path(shutil.copytree(KEPT / "at_step_5", tmp_path / "kept"))


def lines(file):
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_it_goes_on_to_the_same_losses_and_weights(kept):
    main([*COMMAND, "--out", str(kept), "--steps", "10"])
    here, there = lines(kept / "metrics.jsonl"), lines(KEPT / "at_step_10" / "metrics.jsonl")
    assert_close(here, there, rtol=1e-4, atol=0)
    for name in ("model", "ema", "training"):
        file = f"{name}.safetensors"
        here, there = load_file(kept / "checkpoints" / "000000010" / file), load_file(KEPT / "at_step_10" / file)
        assert list(here) == list(there)
        assert_close(here, there, rtol=1e-3, atol=1e-5)


def test_its_config_has_the_same_bytes_and_the_same_hash_in_the_name_of_its_folder(tmp_path, capsys):
    main([*COMMAND, "--root", str(tmp_path), "--steps", "5"])
    assert [folder.name for folder in tmp_path.iterdir()] == ["kept-4aa97888ef"]
    made = (tmp_path / "kept-4aa97888ef" / "config.json").read_bytes()
    assert made == (KEPT / "at_step_5" / "config.json").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["distributions", "audit", "explain", "report", "fit"])
def test_its_files_are_read_by_every_verb_that_looks_into_a_run(verb, kept, capsys):
    main([verb, str(kept), "--json"])
    assert json.loads(capsys.readouterr().out)


@pytest.mark.slow
def test_its_scores_are_compared_and_not_drawn_again(kept, capsys):
    before = {file: file.stat().st_mtime_ns for file in (kept / "scores").iterdir()}
    words = ["--evaluate.at", "5", "--evaluate.num-images", "20", "--evaluate.sampler.steps", "4"]
    main([*COMMAND, "--out", str(kept), "--steps", "5", *words, "--json"])
    scores = json.loads(capsys.readouterr().out)["scores"]["5"]
    recorded = json.loads((kept / "scores" / "000000005-6906ffee4d.scores.json").read_text())
    assert scores == {name: score["value"] for name, score in recorded["scores"].items()}
    assert {file: file.stat().st_mtime_ns for file in (kept / "scores").iterdir()} == before
