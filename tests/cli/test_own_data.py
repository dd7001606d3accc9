"""A run's own data is what its manifest confirms, whichever command asks for it, and from wherever."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from adaln.cli import main
from helpers.command_line import SMALL, data, fails, run
from helpers.pictures import png, two_classes, write_folder

MEANS = "def means(images):\n    return images.float().reshape(len(images), 4, -1).mean(dim=2) / 255\n"
FEATURES = ("--features", "means_of_data:means", "--metrics", "fid", "--replicates", "0")
PICTURES = two_classes(4, height=8, width=8)
TRAIN = ("train", "digits", "--data.path", "set", *SMALL, "--checkpoint-every", "4", "--out", "r")
DRAWN = ("--num-images", "8", "--sampler.solver", "ddim", "--sampler.steps", "2", "--device", "cpu")


def other_pixels(files):
    return {name: png(np.full((8, 8, 3), 10 * number, np.uint8)) for number, name in enumerate(files)}


def other_labels(files):
    return {name.replace("cat/0", "dog/9"): content for name, content in files.items()}


def other_names(files):
    return {name.replace("cat", "wolf"): content for name, content in files.items()}


def one_more(files):
    return {**files, "cat/7.png": files["cat/0.png"]}


@pytest.fixture(scope="module")
def sampled(tmp_path_factory):
    """A run on `set`, named by a relative path, which is gone since, and samples of it."""
    folder = tmp_path_factory.mktemp("begun")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_folder(folder / "set", PICTURES)
        for command in (TRAIN, ("sample", "r", *DRAWN)):
            main(list(command))
    (folder / "set").rename(folder / "elsewhere")
    return folder


@pytest.mark.slow
def test_a_run_goes_on_and_is_scored_from_another_folder(capsys, tmp_path, monkeypatch):
    write_folder(tmp_path / "set", PICTURES)
    (tmp_path / "means_of_data.py").write_text(MEANS)
    (tmp_path / "other").mkdir()
    monkeypatch.setattr("sys.path", [str(tmp_path), *sys.path])
    monkeypatch.chdir(tmp_path)
    run(capsys, *TRAIN)
    monkeypatch.chdir("other")
    scored = [f"--evaluate.{word.removeprefix('--')}" if word.startswith("--") else word for word in DRAWN[:-2]]
    words = [*TRAIN[:-1], str(tmp_path / "r"), *scored, "--evaluate.at", "4", "--evaluate.features", FEATURES[1]]
    assert list(data(capsys, *words)["scores"]) == ["4"]


@pytest.fixture
def elsewhere(sampled, tmp_path, monkeypatch):
    """Another folder, with a copy of the run."""
    shutil.copytree(sampled / "r", tmp_path / "r")
    (tmp_path / "means_of_data.py").write_text(MEANS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [str(tmp_path), *sys.path])
    return tmp_path


@pytest.mark.parametrize("change", [other_pixels, other_labels, other_names, one_more])
def test_other_data_at_the_same_path_is_not_the_run_s_own(capsys, elsewhere, change):
    write_folder(elsewhere / "set", change(PICTURES))
    line = fails(capsys, "evaluate", "r", "--reference", "r", *FEATURES)
    assert "'r' began with data" in line and f"'set' ({elsewhere / 'set'}) now is" in line
    assert not list(elsewhere.rglob("*.scores.json"))


@pytest.mark.parametrize(
    "words",
    [
        ("evaluate", "r", "--reference", "r"),
        ("stats", "r", "s.npz", "--features", "means_of_data:means"),
        ("explain", "r", "--num-batches", "2", "--device", "cpu"),
        ("order", "r", "--device", "cpu"),
        (*TRAIN, "--steps", "8"),
        (*TRAIN, "--evaluate.at", "4", "--evaluate.features", "means_of_data:means", "--evaluate.num-images", "4"),
    ],
    ids=lambda words: "-".join(words[:1]),
)
def test_every_command_that_looks_at_a_run_s_own_data_refuses_other_data(capsys, elsewhere, words):
    write_folder(elsewhere / "set", other_pixels(PICTURES))
    assert "'r' began with data" in fails(capsys, *words)


def test_a_run_that_moves_alone_finds_its_data_where_it_was_begun(capsys, sampled, elsewhere):
    write_folder(elsewhere / "set", other_pixels(PICTURES))
    begun = (sampled / "elsewhere").rename(sampled / "set")
    try:
        score = data(capsys, "evaluate", "r", "--reference", "r", *FEATURES)["scores"]["fid"]
        assert score == data(capsys, "evaluate", "r", "--reference", begun, *FEATURES)["scores"]["fid"]
        assert "'r' began with data" in fails(
            capsys, *TRAIN, "--steps", "8"
        )  # whose words name the data that lies here
    finally:
        begun.rename(sampled / "elsewhere")


def test_a_run_is_begun_from_within_another(capsys, elsewhere, monkeypatch):
    monkeypatch.chdir(elsewhere / "r")
    few = ("--evaluate.at", "4", "--evaluate.num-images", "4", "--evaluate.sampler.steps", "2")
    words = ("train", "digits", *SMALL, "--checkpoint-every", "4", *few, "--evaluate.features", "means_of_data:means")
    assert data(capsys, *words, "--out", elsewhere / "q")["step"] == 4


def test_scores_in_one_process_are_held_against_the_data_as_it_lies(capsys, elsewhere):
    few = ("--evaluate.at", "4", "--evaluate.num-images", "4", "--evaluate.sampler.steps", "2")
    counts = []
    for name, files in (("one", PICTURES), ("other", one_more(PICTURES))):
        write_folder(elsewhere / "set", files)
        run(capsys, *TRAIN[:-1], name, *few, "--evaluate.features", "means_of_data:means")
        (file,) = Path(name, "scores").glob("*.scores.json")
        counts.append(json.loads(file.read_text())["provenance"]["reference"]["num_images"])
    assert counts == [8, 9]


@pytest.mark.slow
def test_the_same_data_elsewhere_is_the_run_s_own(capsys, elsewhere):
    write_folder(elsewhere / "set", PICTURES)
    assert data(capsys, "evaluate", "r", "--reference", "r", *FEATURES)["scores"]["fid"]["num_reference"] == 8
    assert run(capsys, "explain", "r", "--num-batches", "2", "--device", "cpu")
