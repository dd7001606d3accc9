import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from adaln.cli import commands, main
from adaln.cli.output import Output
from adaln.conditioning import SCHEMES
from adaln.config import PRESETS
from adaln.models import MODELS
from adaln.progress import progress
from helpers.command_line import SMALL, fails, run


@pytest.fixture
def trained_path(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Path(json.loads(run(capsys, "train", "digits", *SMALL, "--json"))["run"])


def test_models_says_what_the_options_of_a_network_cost(capsys):
    usual, other = json.loads(run(capsys, "models", "DiT-XL/2", "--model.gate", "static", "--json"))
    assert (usual["model"], other["model"]) == ("DiT-XL/2", "with gate static")
    assert usual["parameters"] - other["parameters"] == 28 * (2 * 1152 * 1153 - 2 * 1152)
    assert other["gmacs"] < usual["gmacs"]


@pytest.mark.parametrize(
    ("verb", "known"), [("schemes", list(SCHEMES)), ("presets", list(PRESETS)), ("models", ["DiT-XL/2", "U-DiT-L"])]
)
def test_catalogues_list_their_registry_for_people_and_machines(capsys, monkeypatch, verb, known):
    monkeypatch.setattr("adaln.cli.listings.MODELS", {name: MODELS[name] for name in ("DiT-XL/2", "U-DiT-L")})
    text = run(capsys, verb)
    data = json.dumps(json.loads(run(capsys, verb, "--json")))
    assert all(name in text and name in data for name in known)


def test_the_page_of_schemes_is_what_its_command_writes(capsys, tmp_path):
    run(capsys, "schemes", "--out", tmp_path / "schemes.md")
    page = Path(__file__).parents[2] / "docs" / "schemes.md"
    assert page.read_text(encoding="utf-8") == (tmp_path / "schemes.md").read_text(encoding="utf-8"), (
        "run: adaln schemes --out docs/schemes.md"
    )


@pytest.mark.slow
def test_from_training_to_a_comparison(capsys, trained_path):
    other = json.loads(run(capsys, "train", "digits", *SMALL, "--scheme", "adaln-gaussian:2e-3", "--json"))["run"]
    for path in (trained_path, other):
        drawn = json.loads(
            run(
                capsys,
                "sample",
                path,
                "--num-images",
                "30",
                "--sampler.solver",
                "ddim",
                "--sampler.steps",
                "3",
                "--json",
            )
        )
        again = run(capsys, "sample", path, "--num-images", "30", "--sampler.solver", "ddim", "--sampler.steps", "3")
        assert again.startswith(f"nothing to draw: {drawn['samples']} holds these 30 images")
        with np.load(drawn["samples"]) as archive:
            assert archive["arr_0"].shape == (30, 8, 8, 1)
        with Image.open(drawn["grid"]) as grid:
            assert min(grid.size) > 100
        scored = json.loads(run(capsys, "evaluate", drawn["samples"], "--reference", "digits", "--json"))
        assert scored["scores"]["fid"]["value"] > 0
        assert "not comparable with Inception FID" in scored["scores"]["fid"]["label"]
    text = run(capsys, "compare", trained_path, other)
    assert "scheme.name: adaln-zero -> adaln-gaussian:0.002" in text
    data = json.loads(run(capsys, "compare", trained_path, other, "--json"))
    assert [row["scheme"] for row in data["runs"]] == ["adaln-zero", "adaln-gaussian:0.002,0.002,0.002"]
    assert all(row["FID"] > 0 for row in data["runs"])
    assert "adaln-zero" in run(capsys, "audit", trained_path, "--step", "0")
    page = Path(json.loads(run(capsys, "report", trained_path, "--json"))["report"])
    assert all(f"<h2>{heading}" in page.read_text() for heading in ("Gate, scale and shift over training", "Audit"))


@pytest.mark.slow
def test_a_run_before_its_first_checkpoint_is_audited_and_its_recording_read(capsys, trained_path):
    shutil.rmtree(trained_path / "checkpoints")
    for words in (["audit", trained_path], ["audit", trained_path, "--step", "0"]):
        audit = json.loads(run(capsys, *words, "--json"))
        assert (audit["start"]["name"], audit["start"]["is_start"]) == ("adaln-zero", True)
        assert Path(audit["report"]).is_relative_to(trained_path.resolve())
    assert "no complete checkpoint at step 4" in fails(capsys, "audit", trained_path, "--step", "4")
    found = json.loads(run(capsys, "distributions", trained_path, "--json"))
    assert Path(found["report"]).is_relative_to(trained_path.resolve())


@pytest.mark.slow
def test_training_again_goes_on_where_it_was(capsys, trained_path):
    before = (trained_path / "metrics.jsonl").read_bytes()
    run(capsys, "train", "digits", *SMALL)
    assert (trained_path / "metrics.jsonl").read_bytes() == before
    run(
        capsys,
        "train",
        "digits",
        *SMALL[:-6],
        "--steps",
        "6",
        "--log-every",
        "2",
        "--device",
        "cpu",
        "--out",
        trained_path,
    )
    assert len((trained_path / "metrics.jsonl").read_text().splitlines()) == 3


def test_every_field_of_the_config_is_a_flag_with_help(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["train", "digits", "--help-all"])
    text = capsys.readouterr().out
    assert stop.value.code == 0
    for flag in ("--scheme", "--seed", "--optim.lr", "--data.path", "--model.depth", "--process.schedule", "--out"):
        assert flag in text
    assert "Learning rate" in text and "Number of blocks" in text


WORDS = {
    "encode": ["SOURCE", "OUT"],
    "sample": ["RUN"],
    "evaluate": ["SAMPLES"],
    "stats": ["SOURCE", "OUT.npz"],
    "compare": ["RUN..."],
    "study": ["NAME"],
    "search": ["PRESET"],
    "report": ["RUN-OR-STUDY"],
    "audit": ["MODEL"],
    "distributions": ["RUN-OR-FILE..."],
    "fit": ["RUN-OR-FILE"],
    "order": ["MODEL|PRESET|RUN"],
    "coord-check": ["PRESET"],
    "explain": ["RUN [RUN2]"],
    "import": ["FILE"],
    "export": ["RUN"],
    "train": ["PRESET|RUN"],
    "data": ["inspect", "PATH"],
}


@pytest.mark.parametrize(("verb", "names"), WORDS.items())
def test_help_names_every_word_of_a_verb_wherever_it_is_asked_for(capsys, verb, names):
    for words in ([verb, "--help"], [verb, "digits", "--help"]):
        with pytest.raises(SystemExit) as stop:
            main(words)
        assert stop.value.code == 0
        usage, _, panels = capsys.readouterr().out.partition("\n\n")
        assert all(name in usage and f" {name} " in panels for name in names)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["sample", "--num-images", "3", "nowhere"], "'nowhere' is not a run"),
        (["audit", "--step", "1", "nowhere"], "--step is for runs; 'nowhere' is none"),
        (["distributions", "--by", "role", "a.pt", "b.pt"], "weights 'a.pt' do not exist"),
        (["compare", "--strict", "a", "b"], "'a' is not a run"),
        (["explain", "--step", "3", "a", "b", "c"], "expected a run, or two, got 3"),
        (["study", "--seeds", "1", "quickstart"], "at least 2 seeds"),
        (["import", "--model", "DiT-XL/2", "a"], "weights 'a' do not exist"),
        (
            ["evaluate"],
            "expected samples (.npz, folder, zip or tar of pictures, run or data set) and --reference STR (an ADM np",
        ),
        (["export", "a", "b", "--out", "c"], "Unrecognized options: b; see adaln export --help"),
        (["train", "--steps", "3", "digits"], "celeba-hq) first, got '--steps'"),
        (["bench", "--repeats", "3"], "expected what to measure (machine,"),
    ],
)
def test_words_stand_before_or_behind_the_flags_but_for_those_that_decide_the_flags(capsys, words, said):
    assert said in fails(capsys, *words)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["trian"], "unknown command 'trian' (nearest: 'train')"),
        (["train"], "expected a preset (digits, images-32, "),
        (["train", "digit"], "unknown preset 'digit' (nearest: 'digits')"),
        (["train", "digits", "--scheme", "adaln-zro"], "nearest: 'adaln-zero'"),
        (["train", "digits", "--model", "DiT-XL2"], "unknown model 'DiT-XL2' (nearest: 'DiT-XL/2', "),
        (["train", "digits", "--process", "dppm"], "nearest: 'ddpm'"),
        (["train", "digits", "--model="], "--model expects a value"),
        (["train", "digits", "--model", ""], "--model expects a value"),
        (["train", "digits", "--process="], "--process expects a value"),
        (["train", "digits", "--out", ""], "--out expects a value"),
        (["train", "digits", "--root= "], "--root expects a value"),
        (["evaluate", "", "--reference", "digits"], "an empty word names nothing"),
        (["evaluate", "a.npz", "--reference", ""], "--reference expects a value"),
        (["data", "inspect", " "], "an empty word names nothing"),
        (["train", "digits", "--stpes", "3"], "nearest: '--steps'"),
        (["train", "digits", "--steps", "many"], "--steps"),
        (["train", "digits", "--optim.lr", "-1"], "expected a number > 0"),
        (["train", "digits", "--model.patch-size", "3"], "patch"),
        (["train", "digits", "--process", "linear-velocity"], "output(s) per channel"),
        (["train", "digits", "--scheme", "adaln-gaussian-blockwise"], "28 blocks one by one, the model has 4"),
        (["train", "digits", "--data.path", "nowhere"], "nowhere"),
        (["train", "digits", "--device", "tpu"], "device 'tpu' is not here"),
        (["sample", "nowhere"], "is not a run"),
        (["sample"], "expected a run"),
        (["evaluate", "nowhere.npz", "--reference", "digits"], "nowhere.npz"),
        (["evaluate", "x.npz"], "--reference"),
        (["compare", "nowhere"], "expected two runs or more"),
        (["study", "quickstrt"], "unknown study 'quickstrt' (nearest: 'quickstart')"),
        (["study", "quickstart", "--seeds", "1"], "at least 2 seeds"),
        (["study", "table2", "--num-images", "0"], "num_images is 0"),
        (["study", "table2", "--steps", "0"], "steps is 0"),
        (["study", "figure20"], "--weights CANNY DEPTH POSE SEG"),
        (["report", "nowhere"], "is not a run"),
    ],
)
def test_bad_input_is_one_line_exit_code_2_and_nothing_half_written(capsys, tmp_path, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    assert said in fails(capsys, *words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_images_that_cannot_be_decoded_stop_or_are_skipped(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    with zipfile.ZipFile("set.zip", "w") as archive:
        for label in ("a", "b"):
            for i in range(4):
                file = tmp_path / "one.png"
                Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(file)
                archive.write(file, f"{label}/{i}.png")
        archive.writestr("a/broken.png", b"")
    words = ["train", "digits", *SMALL, "--data.path", "set.zip", "--model.patch-size", "2"]
    assert "a/broken.png" in fails(capsys, *words)
    assert not Path("runs").exists()
    path = Path(json.loads(run(capsys, *words, "--on-bad-image", "skip", "--json"))["run"])
    data = json.loads((path / "manifest.json").read_text())["data"]
    assert data["num_images"] == 8 and len(data["skipped"]) == 1 and "a/broken.png" in data["skipped"][0]
    assert data["spec"] == {"channels": 3, "height": 8, "width": 8, "num_classes": 2}


def test_an_empty_class_folder_is_named(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for label in ("a", "b"):
        (tmp_path / "set" / label).mkdir(parents=True)
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "set" / "a" / "x.png")
    assert "b" in fails(capsys, "train", "digits", *SMALL, "--data.path", "set")


def test_a_foreign_checkpoint_is_one_line(capsys, trained_path):
    for file in (trained_path / "checkpoints" / "000000004").iterdir():
        file.write_bytes(b"\x80\x04\x95 not safetensors")
    assert "no complete checkpoint" in fails(capsys, "sample", trained_path)


def test_resume_with_a_changed_config_names_the_fields(capsys, trained_path):
    line = fails(capsys, "train", "digits", *SMALL, "--seed", "5", "--out", trained_path)
    assert "seed: 0 -> 5" in line


def test_the_installed_command_starts_quickly_and_knows_its_version():
    shown = subprocess.run(
        [Path(sys.executable).with_name("adaln"), "--version"], capture_output=True, text=True, check=True
    )
    assert shown.stdout.strip().count(".") == 2


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (ValueError("a.npz: two\nlines"), 2, "error: a.npz: two lines"),
        (FileNotFoundError(2, "No such file", "a.npz"), 2, "error: [Errno 2] No such file: 'a.npz'"),
        (MemoryError(), 2, "error: out of memory (MemoryError)"),
        (torch.OutOfMemoryError("tried 2 GiB"), 2, "error: out of memory (tried 2 GiB)"),
        (KeyError("x"), 70, "internal error, a fault of adaln: KeyError: 'x' ("),
        (RuntimeError("sizes\n8 and 32"), 70, "internal error, a fault of adaln: RuntimeError: sizes 8 and 32 ("),
    ],
)
@pytest.mark.parametrize("shows", [False, True])
def test_what_a_user_gave_and_what_is_a_fault_of_ours_are_one_line_each(capsys, monkeypatch, error, code, said, shows):
    def study_verb(words):
        raise error

    monkeypatch.setenv("ADALN_TRACEBACK", "1" if shows else "")
    monkeypatch.setattr(commands, "import_module", lambda name: SimpleNamespace(study_verb=study_verb))
    with pytest.raises(SystemExit) as stop:
        main(["study"])
    *before, line = capsys.readouterr().err.strip().splitlines()
    assert stop.value.code == code and line.startswith(f"adaln: {said}")
    assert ("Traceback (most recent call last):" in before) == shows
    assert code == 2 or ("test_cli.py, line " in line and "ADALN_TRACEBACK=1" in line)


@pytest.mark.parametrize(
    "verb", [verb for verb, of in commands.VERBS.items() if of.kept != commands.Verb("", "", "").kept]
)
def test_a_stop_says_how_far_it_was_and_what_is_kept(capsys, monkeypatch, verb):
    def work(words):
        progress("draw", 165, 1000, "images")
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "import_module", lambda name: SimpleNamespace(**{f"{verb}_verb": work}))
    with pytest.raises(SystemExit) as stop:
        main([verb])
    assert stop.value.code == 130
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("adaln: stopped at 165 of 1,000 images (draw); ")
    assert " kept" in line and line.endswith("; go on with the same command")


def test_json_has_words_for_what_json_lacks(capsys, monkeypatch):
    output = Output({"interval": [float("-inf"), 1.5, float("inf")]}, [])
    monkeypatch.setattr(commands, "import_module", lambda name: SimpleNamespace(study_verb=lambda words: output))
    assert json.loads(run(capsys, "study", "--json")) == {"interval": ["-inf", 1.5, "inf"]}


def test_what_a_file_says_reaches_the_terminal_as_printable_characters(tmp_path, capsys):
    changes = json.dumps({"\x1b[1m\a": None})
    about = f'{{"study": "quickstart", "scale": "tiny", "seeds": [0, 1], "changes": {changes}}}'
    (tmp_path / "study.json").write_text(about)
    line = fails(capsys, "report", str(tmp_path))
    assert line.strip().isprintable() and r"\x1b[1m\x07" in line
