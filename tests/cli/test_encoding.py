import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from adaln.cli import main
from helpers.autoencoders import save_autoencoder
from helpers.command_line import SMALL, data, fails, run
from helpers.pictures import two_classes, write_folder

FEW = ["--num-images", "4", "--sampler.solver", "ddim", "--sampler.steps", "3", "--device", "cpu"]


@pytest.fixture(scope="module")
def vae(tmp_path_factory):
    return save_autoencoder(tmp_path_factory.mktemp("vae") / "tiny-vae")


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return write_folder(Path("set"), two_classes(height=8, width=8))


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ("train", "digits", *SMALL, "--steps", "1", "--data.path", "set"),
        ("stats", "set", "out.npz", "--features", "dataset-classifier"),
    ],
)
def test_the_first_decoding_is_shown_whoever_begins_it(capsys, pictures, monkeypatch, words):
    for seconds in ("FIRST_LINE_SECONDS", "LINE_EVERY_SECONDS"):
        monkeypatch.setattr(f"adaln.cli.progress_bar.{seconds}", 0)
    monkeypatch.setenv("ADALN_CACHE", "cache")
    write_folder(pictures, two_classes(150, height=8, width=8))
    main(list(words))
    shown = capsys.readouterr().err
    assert "decode set: 7 of 300 images (" in shown
    assert "decode set: 300 of 300 images (" in shown


@pytest.mark.slow
def test_from_pictures_through_latents_to_sampled_images(capsys, pictures, vae):
    made = data(capsys, "encode", pictures, "latents", "--autoencoder", vae, "--verify", "--device", "cpu")
    assert (made["num_images"], made["complete"], made["space"]["scaling_factor"]) == (6, True, 0.5)
    assert 0 < made["round_trip"]["rmse"] < 255
    with Image.open(made["round_trip"]["grid"]) as grid:
        assert min(grid.size) > 100
    trained = data(capsys, "train", "digits", *SMALL, "--data.path", "latents", "--data.flip")
    manifest = json.loads((Path(trained["run"]) / "manifest.json").read_text())["data"]
    assert manifest["spec"] == {"channels": 4, "height": 4, "width": 4, "num_classes": 2}
    assert manifest["latents"]["channel_std"] == made["channel_std"]
    shutil.rmtree("latents")  # samples need the autoencoder, not the data
    drawn = data(capsys, "sample", trained["run"], *FEW)
    assert drawn["decoder"] == made["space"]
    with np.load(drawn["samples"]) as archive:
        assert archive["arr_0"].shape == (4, 8, 8, 3)
    with Image.open(drawn["grid"]) as grid:
        assert grid.mode in ("RGB", "RGBA")


@pytest.mark.slow
def test_samples_are_decoded_by_the_autoencoder_of_the_run_or_not_at_all(capsys, pictures, vae, tmp_path):
    moved = shutil.copytree(vae, tmp_path / "here")
    run(capsys, "encode", pictures, "latents", "--autoencoder", moved, "--device", "cpu")
    trained = data(capsys, "train", "digits", *SMALL, "--data.path", "latents")["run"]
    first = data(capsys, "sample", trained, *FEW)["samples"]
    with np.load(first) as archive:
        images = archive["arr_0"]
    shutil.rmtree(moved)
    assert "no autoencoder at" in fails(capsys, "sample", trained, *FEW)
    elsewhere = data(capsys, "sample", trained, *FEW, "--autoencoder", vae, "--out", "again.npz")["samples"]
    with np.load(elsewhere) as archive:
        np.testing.assert_array_equal(archive["arr_0"], images)
    other_weights = save_autoencoder(tmp_path / "other", seed=1)
    assert "autoencoder_sha256" in fails(capsys, "sample", trained, *FEW, "--autoencoder", other_weights)
    config = json.loads((vae / "config.json").read_text())
    rescaled = shutil.copytree(vae, tmp_path / "rescaled")
    (rescaled / "config.json").write_text(json.dumps(config | {"scaling_factor": 0.25}))
    assert "have scaling_factor 0.5; 'rescaled' has 0.25" in fails(
        capsys, "sample", trained, *FEW, "--autoencoder", rescaled
    )


def test_training_on_latents_resumes_bit_for_bit(capsys, pictures, vae):
    run(capsys, "encode", pictures, "latents", "--autoencoder", vae, "--device", "cpu", "--shard-rows", "4")
    words = ["train", "digits", *SMALL, "--data.path", "latents", "--data.flip", "--checkpoint-every", "2"]
    whole, parts = (Path(data(capsys, *words, "--out", name)["run"]) for name in ("whole", "parts"))
    shutil.rmtree(parts / "checkpoints/000000004")
    run(capsys, *words, "--out", parts)
    for file in ("model", "ema", "training"):
        one, other = (load_file(path / f"checkpoints/000000004/{file}.safetensors") for path in (whole, parts))
        assert one.keys() == other.keys()
        assert all(np.array_equal(one[name], other[name]) for name in one), file


def test_pixels_are_kept_as_bytes_and_inspected(capsys, pictures):
    made = data(capsys, "encode", pictures, "bytes", "--autoencoder", "none")
    assert made["space"] is None
    found = data(capsys, "data", "inspect", "bytes")
    assert (found["kind"], found["num_items"], found["is_intact"]) == ("shards of adaln", 6, True)
    assert found["class_counts"] == {"cat": 3, "dog": 3}
    assert data(capsys, "encode", pictures, "bytes", "--autoencoder", "none") == made  # all is there: nothing to do


def test_a_dry_encoding_says_what_is_missing_and_writes_nothing(capsys, pictures, vae):
    words = ("encode", pictures, "latents", "--autoencoder", vae, "--device", "cpu", "--shard-rows", "4")
    foreseen = data(capsys, *words, "--dry-run")
    assert (foreseen["num_images"], foreseen["missing"]) == (6, 6)
    assert foreseen["seconds"] > 0
    assert not Path("latents").exists()
    data(capsys, *words)
    shards = sorted(Path("latents").glob("*.safetensors"))
    assert foreseen["disk_bytes"] == sum(load_file(shard)["moments"].nbytes for shard in shards)
    shards[0].unlink()
    assert data(capsys, *words, "--dry-run")["missing"] == 4
    assert not shards[0].exists()
    assert "begun with other settings" in fails(capsys, *words[:-1], "3", "--dry-run")


@pytest.mark.slow
@pytest.mark.parametrize("command", ["train", "encode"])
@pytest.mark.parametrize(
    ("add", "said"),
    [
        ({}, "set: 6 pictures, 2 classes (cat, dog) of at least 3"),
        (
            {"dog/9.png": b"", "cat/w.jfif": b""},
            "set: 7 pictures, 2 classes (cat, dog) of at least 3; passed over: 1 .jfif (cat/w.jfif)",
        ),
        (
            {f"{i}/{i}.cls": b"" for i in "ab"}
            | {f"cat/{i}.cls": b"2" for i in range(3)}
            | {f"dog/{i}.cls": b"1" for i in range(3)},
            "set: 6 pictures, 3 classes (0, 1, 2) of at least 3, but 1 of them without any ('0');"
            " passed over: 2 .cls (a/a.cls)",
        ),
    ],
)
def test_training_and_encoding_begin_with_one_line_of_what_the_set_is(capsys, pictures, command, add, said):
    write_folder(pictures, add)
    skipping = "--data.on-bad-image" if command == "train" else "--on-bad-image"
    where = (
        ["digits", *SMALL, "--data.path", "set", "--out", "run"]
        if command == "train"
        else ["set", "run", "--autoencoder", "none"]
    )
    main([command, *where, *([] if "dog/9.png" not in add else [skipping.replace("data.", ""), "skip"])])
    lines = capsys.readouterr().err.splitlines()
    if command == "train" and "dog/9.png" in add:
        said = said.replace("7 pictures", "6 pictures") + ", 1 that cannot be decoded"
    assert lines[0] == said + "; each 8 x 8, 3 channels" * (command == "train")


@pytest.mark.slow
def test_the_counts_of_a_run_are_in_its_manifest_and_for_machines(capsys, pictures):
    write_folder(pictures, {"cat/w.jfif": b""})
    made = data(capsys, "encode", pictures, "bytes", "--autoencoder", "none")
    for path in (pictures, "bytes"):
        trained = data(capsys, "train", "digits", *SMALL, "--data.path", path, "--out", f"run-{path}")
        manifest = json.loads((Path(trained["run"]) / "manifest.json").read_text())["data"]
        assert trained["data"] == manifest
        assert (manifest["num_images"], manifest["class_counts"]) == (6, [3, 3])
        found = data(capsys, "data", "inspect", path)
        assert manifest["passed_over"] == found["passed_over"] == made["passed_over"] == ["1 .jfif (cat/w.jfif)"]


def test_a_flat_set_is_called_unconditional_and_so_is_one_whose_labels_are_ignored(capsys, pictures):
    main(["train", "digits", *SMALL, "--data.path", "set", "--data.no-conditional", "--out", "run"])
    assert (
        capsys.readouterr()
        .err.splitlines()[0]
        .endswith("2 classes (cat, dog) of at least 3; labels ignored: unconditional; each 8 x 8, 3 channels")
    )
    main(["encode", "set/cat", "flat", "--autoencoder", "none"])
    assert capsys.readouterr().err.splitlines()[0] == "set/cat: 3 pictures, no classes: unconditional"


def test_celeba_is_encoded_by_attribute(capsys, pictures):
    for i in range(3):
        (pictures / f"dog/{i}.png").rename(pictures / f"dog/{i + 3}.png")
    rows = "".join(f"{i}.png {1 if i in (2, 5) else -1} 1\n" for i in range(6))
    (pictures / "list_attr_celeba.txt").write_text(f"6\nSmiling Young\n{rows}")
    run(capsys, "encode", pictures, "bytes", "--autoencoder", "none", "--attribute", "Smiling")
    assert data(capsys, "data", "inspect", "bytes")["class_counts"] == {"not Smiling": 4, "Smiling": 2}


def test_an_inspection_tells_people_what_is_wrong(capsys, pictures):
    (pictures / "cat/0.png").write_bytes(b"")
    with pytest.raises(SystemExit) as stop:
        main(["data", "inspect", str(pictures)])
    shown = capsys.readouterr()
    problem = "cat/0.png: empty file (0 bytes)"
    assert f"PROBLEM {problem}" in shown.out and "dog" in shown.out
    assert shown.err.splitlines()[-1] == f"adaln: error: {pictures}: NOT intact: 1 problem, the first: {problem}"
    assert stop.value.code == 2


def test_what_cannot_be_inspected_is_bad_input_and_machines_have_the_problems_all_the_same(capsys, pictures):
    assert fails(capsys, "data", "inspect", "nowhere").startswith("adaln: error: no data at 'nowhere'")
    (pictures / "empty").mkdir()
    for words in (["data", "inspect", pictures], ["data", "inspect", "set/empty"]):
        with pytest.raises(SystemExit) as stop:
            main([*map(str, words), "--json"])
        seen = json.loads(capsys.readouterr().out)
        assert (stop.value.code, seen["is_intact"], len(seen["problems"])) == (2, False, 1)


def test_a_set_with_many_classes_is_summed_up(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("adaln.cli.encoding.MOST_CLASSES", 1)
    write_folder(tmp_path / "set", two_classes())
    assert "2 classes, from 3 items ('cat') to 3 ('dog')" in run(capsys, "data", "inspect", tmp_path / "set")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["encode"], "expected a source"),
        (["encode", "set"], "expected the folder to write"),
        (["encode", "set", "out", "--autoencoder", "nowhere/at/all"], "no autoencoder at 'nowhere/at/all'"),
        (["encode", "set", "out", "--autoencoder", "none", "--verify"], "verify decodes latents"),
        (["encode", "set", "out", "--layout", "imagnet-256"], "nearest: 'imagenet-256'"),
        (["encode", "set", "out", "--layout", "afhq-256"], "6 images; AFHQ has 14,630 or 14,336"),
        (["encode", "sett", "out", "--autoencoder", "none"], "no data at 'sett'"),
        (["data"], "expected the word inspect and a path"),
        (["data", "inspct", "set"], "unknown action 'inspct'"),
        (["data", "inspect", "sett"], "no data at 'sett'"),
    ],
)
def test_bad_input_is_one_line_and_nothing_half_written(capsys, pictures, words, said):
    assert said in fails(capsys, *words)
    assert not any(Path("out").glob("[!.]*"))


@pytest.mark.slow
def test_two_processes_of_torchrun_make_the_set_of_one(capsys, pictures, vae):
    options = ["--autoencoder", str(vae), "--shard-rows", "2", "--device", "cpu"]
    alone = data(capsys, "encode", pictures, "one", *options)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--no-python"]
    adaln = str(Path(sys.executable).with_name("adaln"))
    subprocess.run([*command, adaln, "encode", str(pictures), "two", *options], check=True)
    assert data(capsys, "encode", pictures, "two", *options)["fingerprint"] == alone["fingerprint"]
    for file in Path("one").glob("[!.]*"):
        assert (Path("two") / file.name).read_bytes() == file.read_bytes()
