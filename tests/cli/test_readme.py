"""Every command of README.md is done, smaller; what needs a GPU, a network or hours is planned, or refused as it should
be."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adaln.cli import main
from helpers.documents import ROOT, commands

TRAIN = "--steps 4 --batch-size 4 --log-every 2 --checkpoint-every 2 --keep-checkpoints 0 --device cpu"
NARROW = "--model.hidden-size 16 --model.depth 2 --model.num-heads 2"
DRAWN = "--num-images 8 --device cpu --batch-size 8"
QUICK = "--sampler.solver ddim --sampler.steps 2"
SMALLER = {
    "train": f"{TRAIN} --no-compile",
    "sample": f"{DRAWN} {QUICK}",
    "sweep": f"--num-images 8 --device cpu {QUICK} --over.steps 2",
    "study": "--dry-run",
    "choose": "--dry-run --budget 60runs",
    "search": f"--dry-run {TRAIN.replace(' --checkpoint-every 2', '')}",
    "coord-check": "--widths 16,32 --model.num-heads 2 --steps 2 --batch-size 4 --device cpu",
    "order": "--batch-size 1 --size 8 --device cpu",
    "loss": "--device cpu",
    "evaluate": "--replicates 10 --device cpu",
}
"""What is added to the words of a command."""
NEEDS = {
    "imagenet-256": "adaln encode IMAGES imagenet-256 --layout imagenet-256",
    "--scale paper": "scale paper lacks the latents",
    "latents/": "autoencoder",
    "inception": "does not exist",
    "DiT-XL-2-256x256.pt": "do not exist",
    "figure20": "do not exist",
    "hf:": "",
}
"""What only others have, and a word of the refusal."""
NOT_HERE = ("bench", "push")
"""Minutes of measurements, and the hub: tests of their own."""
MODULE = """
from adaln import models
from adaln.rng import generator
from adaln.types import DataSpec
def build():
    return models.build(models.MODELS["tiny"], DataSpec(1, 8, 8, 10), generator("x"))
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # not the variable: it is read once, for all
    for bound in ("FEWEST_STEPS", "MOST_STEPS"):
        monkeypatch.setattr(f"adaln.metrics.classifier.{bound}", 3)
    rng = np.random.default_rng(0)
    for label in ("cat", "dog"):
        (tmp_path / "pictures" / label).mkdir(parents=True)
        for i in range(30):
            image = Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8))
            image.save(tmp_path / "pictures" / label / f"{i}.png")
    shutil.make_archive("pictures", "zip", tmp_path / "pictures")
    (mine,) = re.findall(r"```toml\n(# mine\.toml.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    Path("mine.toml").write_text(mine)
    Path("mine-config.toml").write_text('scheme = "adaln-gaussian"\n[optim]\nlr = 1e-3\n')
    Path("mymodule.py").write_text(MODULE)
    return tmp_path


def words_of(verb, words):
    """As a shell and a reader would have them: of runs that are there, and smaller."""
    runs = sorted(map(str, Path().glob("runs/images-32-*")))
    filled = []
    for word in words:
        if word == "runs/images-32-*":
            filled += runs[:2]
        elif word == "RUN" or "0123456789" in word:
            filled.append(runs[0])
        else:
            filled.append(word)
    more = SMALLER.get(verb, "").split()
    if verb == "train" and "images-32" in " ".join(words) and not words[0].startswith("runs/"):
        more += [*NARROW.split(), "--data.held-out", "0.2"]
    if "--evaluate.every" in words:
        filled[filled.index("--evaluate.every") + 1] = "2"
        more += ["--evaluate.num-images", "8", "--evaluate.sampler.solver", "ddim", "--evaluate.sampler.steps", "2"]
    if words[:1] and words[0].startswith("runs/") and verb == "train":
        more = ["--device", "cpu", "--steps", "6"]
    return [verb, *filled, *more]


@pytest.mark.slow
def test_every_command_of_the_readme_does_what_it_says(folder, capsys):
    refused = {}
    for verb, words in commands("README.md"):
        text = " ".join(words)
        if verb in NOT_HERE or "mine:network" in text:
            continue
        if words == ["model.safetensors"]:
            main(["export", sorted(map(str, Path().glob("runs/images-32-*")))[0], "--out", "model.safetensors"])
        needed = next((need for need in NEEDS if need in text), None)
        try:
            main(words_of(verb, words))
        except SystemExit as stop:
            line = capsys.readouterr().err.strip().splitlines()[-1]
            refused[f"{verb} {text}"] = line
            assert stop.code == 2 and needed and NEEDS[needed] in line, (verb, text, line)
        else:
            assert needed is None or verb == "study", (verb, text)
    assert len(refused) <= 8, refused
