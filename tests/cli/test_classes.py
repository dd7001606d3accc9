import json
from pathlib import Path

import pytest

from helpers.command_line import SMALL, data, fails, run
from helpers.pictures import pixels, png, write_folder

FEW = ["--num-images", "4", "--sampler.steps", "2", "--device", "cpu"]


@pytest.fixture(scope="module")
def numbered(tmp_path_factory):
    """A run on folders 0 to 11, which sort as text, and one on classes of which the first has no picture."""
    folder = tmp_path_factory.mktemp("numbered")
    write_folder(folder / "set", {f"{i}/0.png": png(pixels(i, 8, 8)) for i in range(12)})
    files = {
        f"{i}{end}": content for i in range(3) for end, content in ((".png", png(pixels(i, 8, 8))), (".cls", b"1"))
    }
    write_folder(folder / "from-one", files)
    return folder


def trained(capsys, folder, name):
    return data(capsys, "train", "digits", *SMALL, "--data.path", folder / name, "--out", folder / f"run-{name}")["run"]


@pytest.mark.slow
def test_sampling_one_class_says_which_folder_it_was(capsys, numbered):
    path = trained(capsys, numbered, "set")
    assert "all of class 2, '10'" in run(capsys, "sample", path, "--labels", "2", *FEW)
    out = data(capsys, "sample", path, "--labels", "2", *FEW)
    assert (out["classes"], out["class"]) == ({"10": 4}, "10")
    assert json.loads(Path(out["samples"]).with_suffix(".json").read_text())["class"] == "10"
    assert data(capsys, "sample", path, *FEW)["classes"] == {"0": 1, "1": 1, "10": 1, "11": 1}


@pytest.mark.slow
def test_sampling_a_class_without_pictures_says_so(capsys, numbered):
    path = trained(capsys, numbered, "from-one")
    assert "2 of them of 1 classes without any picture in the data ('0')" in run(capsys, "sample", path, *FEW)
    assert "without any" not in run(capsys, "sample", path, "--labels", "1", *FEW)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("order", "tiny", "--channels", "-1"), "channels is -1; expected at least 1"),
        (("models", "--size", "0"), "height is 0; expected at least 1"),
        (("models", "--num-classes", "-1"), "num_classes is -1; expected at least 0"),
        (("train", "digits", "--seed", "-1"), "seed is -1; expected an integer >= 0"),
        (("train", "digits", "--evaluate.seed", "-1"), "seed is -1; expected an integer >= 0"),
        (("train", "digits", "--evaluate.ema", "nan"), "ema is nan; expected a width from 0.001 to 0.289"),
        (("train", "digits", "--evaluate.num-images", "8"), "none when; expected --evaluate.every N"),
        (("explain", "run", "--other-step", "-1"), "--other-step is -1, of a second run"),
    ],
)
def test_a_number_that_means_nothing_is_one_line_and_nothing_is_written(capsys, tmp_path, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    assert said in fails(capsys, *words)
    assert not [*tmp_path.iterdir()]
