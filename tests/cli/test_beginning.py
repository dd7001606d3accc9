"""What a command begins with besides a preset, a run or a file, and what it says before it begins."""

import json
from pathlib import Path

import pytest

from adaln.cli import main, training
from adaln.cli.options import config_in, take_preset
from adaln.codec import canonical_json
from adaln.config import PRESETS, to_dict
from adaln.evaluation.scoring import Scoring
from adaln.models import MODELS
from adaln.processes import PROCESSES
from adaln.sampling import SampleConfig
from helpers.command_line import SMALL, data, fails, run
from helpers.pictures import pixels, png, write_folder

DRY = {
    "train digits": "1 run, runs/digits-",
    "study table3": "9 runs in runs",
    "search digits --over gate --trials 3 --seeds 2 --objective loss": "6 runs in runs",
}


def test_a_file_says_what_is_otherwise_than_in_the_preset_and_may_name_scheme_model_and_process(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(
        'scheme = "adaln-gaussian"\nmodel = "SiT-tiny"\nprocess = "linear-velocity"\nsteps = 7\n[optim]\nlr = 1e-3\n'
    )
    preset, config, rest = take_preset(["digits", "--config", str(file), "--seed", "3"])
    assert (preset, rest) == ("digits", ["digits", "--seed", "3"])
    assert (config.scheme.name, config.steps, config.optim.lr) == ("adaln-gaussian", 7, 1e-3)
    assert (config.model, config.process) == (MODELS["SiT-tiny"], PROCESSES["linear-velocity"])
    assert config.batch_size == PRESETS["digits"]().batch_size
    file.write_text("[model]\ndepth = 2\n")
    assert config_in(file, PRESETS["digits"]()).model.depth == 2


def test_a_whole_config_takes_the_place_of_a_preset(tmp_path):
    file = tmp_path / "config.json"
    file.write_text(canonical_json(to_dict(PRESETS["images-32"]())))
    assert take_preset(["--config", str(file), "--steps", "5"]) == (
        str(file),
        PRESETS["images-32"](),
        [str(file), "--steps", "5"],
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('schme = "adaln"', "nearest: 'scheme'"),
        ("steps = ", "is not the config of a run"),
        ("steps = -1", "steps is -1"),
    ],
)
def test_what_is_wrong_in_a_file_is_one_line_that_names_it(capsys, tmp_path, content, said):
    (tmp_path / "mine.toml").write_text(content)
    line = fails(capsys, "train", "digits", "--config", tmp_path / "mine.toml")
    assert said in line and "mine.toml" in line
    assert "No such file" in fails(capsys, "train", "digits", "--config", tmp_path / "nowhere.toml")


@pytest.mark.slow
def test_a_run_goes_on_in_its_folder_or_begins_another_that_is_like_it(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = Path(data(capsys, "train", "digits", *SMALL)["run"])
    monkeypatch.chdir(tmp_path.parent)
    place = tmp_path / first
    longer = data(capsys, "train", place, "--steps", "6", "--device", "cpu")
    assert (longer["run"], longer["step"]) == (str(place), 6)
    other = data(capsys, "train", place, "--seed", "3", "--device", "cpu")
    assert Path(other["run"]).parent == place.parent and Path(other["run"]) != place
    before, after = (json.loads((Path(path) / "config.json").read_text()) for path in (place, other["run"]))
    assert {name for name in before if before[name] != after[name]} == {"seed"}
    assert "nothing to do" in run(capsys, "train", place, "--steps", "4", "--device", "cpu")


@pytest.mark.slow
@pytest.mark.parametrize(("words", "said"), DRY.items())
def test_a_dry_run_says_time_disk_and_memory_and_makes_nothing(capsys, tmp_path, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    text = run(capsys, *words.split(), "--dry-run", "--device", "cpu")
    assert text.startswith(said)
    assert all(f"\n{word}" in text for word in ("time: about", "disk: ", "memory of each: ", "nothing was trained"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words",
    [
        "train images-32",
        "choose images-32 --budget 1h",
        "search images-32 --over gate",
        "study three-starts --scale images-32",
    ],
)
def test_a_dry_run_without_its_data_is_refused_as_the_run_is(capsys, tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    line = fails(capsys, *words.split(), "--dry-run", "--device", "cpu")
    assert "no data at 'images'" in line and "--data.path PLACE, of a study: --data PLACE" in line
    assert line == fails(capsys, *words.split(), "--device", "cpu")
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_of_a_study_is_refused_for_seeds_and_latents_as_the_study_is(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "seeds is 1" in fails(capsys, "study", "table3", "--seeds", "1", "--dry-run")
    assert "scale paper lacks the latents" in fails(capsys, "study", "table3", "--scale", "paper", "--dry-run")


@pytest.mark.slow
def test_a_dry_sample_draws_nothing(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = Path(data(capsys, "train", "digits", *SMALL)["run"])
    said = run(capsys, "sample", path, "--dry-run", "--device", "cpu")
    assert said.startswith(f"1,000 images of step 4 of {path}") and not (path / "samples").exists()


def test_a_short_run_ends_with_how_much_of_its_average_is_still_the_start(trained):
    shown = training.trained(trained, Scoring(SampleConfig()), ()).shown
    assert "of the start is still in the averaged weights of step 10" in shown[-1] and "--weights model" in shown[-1]


@pytest.mark.parametrize(
    "words",
    [
        "audit FILE",
        "audit FILE --discover",
        "order FILE",
        "train digits --model FILE",
        "choose digits --model FILE",
        "evaluate digits --reference digits --features FILE",
    ],
)
@pytest.mark.parametrize(
    ("file", "meant"),
    [
        ("mynet.py", "mynet:build"),
        ("mynet", "mynet:build"),
        ("mynet.py:make", "mynet:make"),
        ("nets/other.py", "nets.other:build"),
        ("HERE/nets/other.py", "other:build, in the folder 'HERE/nets'"),
    ],
)
def test_a_file_of_python_is_answered_with_the_words_that_name_its_code(
    capsys, tmp_path, monkeypatch, words, file, meant
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets").mkdir()
    for name in ("mynet.py", "nets/other.py"):
        (tmp_path / name).write_text("def build(spec): ...\n")
    file, meant = (text.replace("HERE", str(tmp_path)) for text in (file, meant))
    line = fails(capsys, *words.replace("FILE", file).split())
    assert f"{file!r} names a file of Python; expected" in line and line.rstrip().endswith(f"such as {meant}")


def dry(capsys, *words):
    """What a dry run says, by the first word of each of its lines."""
    lines = run(capsys, *words, *SMALL, "--dry-run").splitlines()
    return {line.partition(":")[0]: line for line in lines}


@pytest.mark.parametrize(
    ("folders", "said"),
    [
        ([""], "pictures, 4 pictures, no classes: unconditional; each 8 x 8, 3 channels"),
        (["cat/", "dog/"], "pictures, 8 pictures, 2 classes (cat, dog) of at least 4; each 8 x 8, 3 channels"),
    ],
)
def test_a_dry_run_says_what_data_it_found(capsys, tmp_path, monkeypatch, folders, said):
    monkeypatch.chdir(tmp_path)
    write_folder(Path("pictures"), {f"{name}{i}.png": png(pixels(i, 8, 8, 3)) for name in folders for i in range(4)})
    for words in (["train"], ["choose", "--budget", "100runs", "--by", "loss"]):
        assert dry(capsys, *words[:1], "digits", "--data.path", "pictures", *words[1:])["data"] == f"data: {said}"


@pytest.mark.slow
def test_a_dry_run_speaks_of_scores_and_samples_only_where_there_are_some(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plain = dry(capsys, "train", "digits")
    assert not plain["time"].endswith("on top") and plain["disk"].endswith("of checkpoints")
    scored = dry(capsys, "train", "digits", "--evaluate.every", "4")
    assert scored["time"].endswith("; scores come on top") and scored["disk"].endswith("of checkpoints and samples")
    choose = "choose", "digits", "--budget", "100runs"
    assert dry(capsys, *choose)["time"].endswith("; scores come on top")
    assert not dry(capsys, *choose, "--by", "loss")["time"].endswith("on top")
    held = dry(capsys, *choose, "--by", "held-out-loss", "--data.held-out", "0.1")["time"]
    assert held.endswith("; held-out losses come on top")
    main(["train", "digits", *SMALL, "--out", "r"])
    capsys.readouterr()
    assert "scores" not in run(capsys, "sample", "r", "--num-images", "4", "--dry-run", "--device", "cpu")
