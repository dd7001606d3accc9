"""The table of scores says what was scored: which samples of which step, at which sizes, and what was left out."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from adaln.cli import main
from adaln.runs import Run
from adaln.views.run_page import run_page
from helpers.command_line import SMALL, data, fails, run
from helpers.pictures import pixels, png, write_folder, write_tar, write_zip

MEANS = """
def means(images):
    h, w = images.shape[-2] // 2, images.shape[-1] // 2
    corners = [images[..., a:b, c:d] for a, b in ((0, h), (h, None)) for c, d in ((0, w), (w, None))]
    return __import__("torch").stack([corner.float().mean(dim=(1, 2, 3)) for corner in corners], dim=1)
"""
FEATURES = ("--features", "corner_means:means", "--replicates", "0")
FID = (*FEATURES, "--metrics", "fid")
DRAWN = ("--sampler.solver", "ddim", "--sampler.steps", "2", "--device", "cpu")
TRAIN = ("train", "digits", *SMALL, "--checkpoint-every", "4")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run of 8 steps, of which 8 samples of step 8 were drawn first, then 6 of step 4, and 4 of step 8 elsewhere."""
    folder = tmp_path_factory.mktemp("scored")
    (folder / "corner_means.py").write_text(MEANS)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        main([*TRAIN, "--out", "r", "--steps", "8"])
        for words in (
            ("--num-images", "8"),
            ("--num-images", "6", "--step", "4"),
            ("--num-images", "4", "--out", "x.npz"),
        ):
            main(["sample", "r", *words, *DRAWN])
    return folder


@pytest.fixture(autouse=True)
def here(folder, tmp_path, monkeypatch):
    """A folder of its own with features that cost nothing; `r` is the run."""
    (tmp_path / "corner_means.py").write_text(MEANS)
    (tmp_path / "r").symlink_to(folder / "r")
    (tmp_path / "x.npz").symlink_to(folder / "x.npz")
    (tmp_path / "x.json").symlink_to(folder / "x.json")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [str(tmp_path), *sys.path])
    yield tmp_path
    sys.modules.pop("corner_means", None)


def samples(step: int) -> Path:
    (file,) = Path("r/samples").glob(f"{step:09d}-*.npz")
    return file


def write_images(path: str, count: int, size: int = 8, seed: int = 0) -> str:
    write_folder(Path(path), {f"{i:02d}.png": png(pixels(seed + i, size, size)) for i in range(count)})
    return path


@pytest.mark.slow
def test_of_a_run_the_newest_step_is_scored_whatever_was_drawn_last(capsys):
    shown = run(capsys, "evaluate", "r", "--reference", "digits", *FID)
    assert f"{samples(8)} (step 8) beside digits" in shown
    assert "one of 2 files in r/samples (step 4, step 8), that of the newest step which was written last" in shown
    assert "the run is at step" not in shown


def test_samples_of_an_earlier_step_say_that_the_run_is_further_on(capsys):
    found = data(capsys, "evaluate", samples(4), "--reference", "digits", *FID)
    assert "the samples are of step 4, the run is at step 8: adaln sample r draws anew" in found["notes"]
    assert found["provenance"]["choices"]["step"] == 4
    assert json.loads(Path(found["scores_file"]).read_text())["notes"] == found["notes"]


@pytest.mark.slow
@pytest.mark.parametrize(("inside", "named"), [("r", "samples/"), ("r/samples", "")])
def test_from_within_the_run_it_is_said_as_well(capsys, monkeypatch, inside, named):
    words = ("evaluate", named + samples(4).name, "--reference", "digits", *FID, "--out", Path("s.json").absolute())
    monkeypatch.chdir(inside)
    notes = data(capsys, *words)["notes"]
    assert any("the samples are of step 4, the run is at step 8: adaln sample" in note for note in notes)


def test_samples_of_a_step_that_the_run_is_not_at_are_called_earlier_ones(capsys):
    Path("z/samples").mkdir(parents=True)
    for name in ("config.json", "manifest.json"):
        Path("z", name).write_bytes(Path("r", name).read_bytes())
    shutil.copytree("r/checkpoints/000000004", "z/checkpoints/000000004")
    for file in (samples(8), samples(8).with_suffix(".json")):
        Path("z/samples", file.name).write_bytes(file.read_bytes())
    notes = data(capsys, "evaluate", "z", "--reference", "digits", *FID)["notes"]
    assert (
        "the samples are of step 8 (they are of an earlier training), the run is at step 4: adaln sample z" in notes[-1]
    )


@pytest.mark.parametrize("scale", ["nan", "inf", "-inf"])
def test_guidance_without_a_number_is_one_line(capsys, scale):
    assert "guidance scale is" in fails(capsys, "sample", "r", f"--guidance.scale={scale}", *DRAWN)


def test_samples_that_left_the_run_name_their_step(capsys):
    shown = run(capsys, "evaluate", "x.npz", "--reference", "digits", *FID)
    assert "x.npz (step 8) beside digits" in shown and "files in" not in shown


@pytest.mark.parametrize(("asked", "scored"), [(5, 5), (7, 7), (8, 8)])
def test_as_many_as_asked_for_are_taken_of_a_file_that_has_them(capsys, asked, scored):
    found = data(capsys, "evaluate", "r", "--reference", "digits", *FID, "--num-images", asked)
    assert found["scores"]["fid"]["num_samples"] == scored


def test_more_than_a_run_has_is_refused_with_the_way_to_more(capsys):
    line = fails(capsys, "evaluate", "r", "--reference", "digits", *FID, "--num-images", "9")
    assert "samples of 8 images at most, asked for are 9; adaln sample r --num-images 9 draws them" in line


def test_an_average_that_is_still_its_start_is_said_with_samples_scores_and_report(capsys):
    said = "% of the start is still in the averaged weights of step"
    assert f"92.3 {said} 8" in run(capsys, "sample", "r", "--num-images", "8", *DRAWN)
    assert json.loads(samples(4).with_suffix(".json").read_text())["start_in_average"] == pytest.approx(0.99**4)
    assert any(
        f"92.3 {said} 8" in note for note in data(capsys, "evaluate", "x.npz", "--reference", "digits", *FID)["notes"]
    )
    assert any(f"92.3 {said} 8" in line for line in run_page(Run.open("r")).summary)


def test_raw_weights_are_drawn_from_and_called_so(capsys):
    out = data(capsys, "sample", "r", "--weights", "model", "--num-images", "8", *DRAWN, "--out", "raw.npz")
    assert (out["weights"], out["start_in_average"]) == ("model", None)
    assert (np.load("raw.npz")["arr_0"] != np.load(samples(8))["arr_0"]).any()
    assert "raw.npz (step 8, raw weights) beside" in run(capsys, "evaluate", "raw.npz", "--reference", "digits", *FID)
    found = data(capsys, "evaluate", "raw.npz", "--reference", "digits", *FID)
    assert not any("of the start" in note for note in found["notes"])
    paths = [found["scores_file"], data(capsys, "evaluate", samples(8), "--reference", "digits", *FID)["scores_file"]]
    assert "choices.weights: model, ema" in run(capsys, "compare", *paths)


def test_a_page_says_of_which_weights_its_score_and_samples_are_and_warns_of_no_average_beside_raw_ones(capsys, here):
    shutil.copytree("r", "s", ignore=shutil.ignore_patterns("samples", "scores", "*.scores.json"))
    said = "of the start is still in the averaged weights"
    assert said in " ".join(run_page(Run.open("s")).summary)  # of a run that nothing was drawn from
    run(capsys, "sample", "s", "--weights", "model", "--num-images", "8", *DRAWN)
    assert said not in " ".join(run_page(Run.open("s")).summary)
    run(capsys, "evaluate", "s", "--reference", "digits", *FID)
    page = run_page(Run.open("s"))
    assert " of raw weights at step 8, " in page.summary[0] and said not in " ".join(page.summary)
    samples_shown, scores_shown = page.sections[:2]
    assert "8 samples of raw weights of step 8 in" in samples_shown.blocks[0].caption
    assert "raw weights" in scores_shown.blocks[0].title
    averaged = data(capsys, "sample", "s", "--num-images", "8", *DRAWN)["samples"]
    run(capsys, "evaluate", averaged, "--reference", "digits", *FID)
    page = run_page(Run.open("s"))
    assert " of averaged weights at step 8, " in page.summary[0] and said in page.summary[1]


@pytest.mark.parametrize("made", ["folder", "npz", "zip", "statistics"])
def test_sides_of_two_sizes_are_noted_and_kept(capsys, made):
    small, large = write_images("small", 6), write_images("large", 6, size=16)
    if made == "npz":
        np.savez(large := "large.npz", arr_0=np.zeros((6, 16, 16, 3), np.uint8))
    elif made == "zip":
        write_zip(Path("large.zip"), {file.name: file.read_bytes() for file in Path(large).iterdir()})
        large = "large.zip"
    elif made == "statistics":
        run(capsys, "stats", large, large := "large.npz", *FEATURES[:2])
    found = data(capsys, "evaluate", small, "--reference", large, *FID)
    assert any(note.startswith("samples of 8x8 pixels beside reference images of 16x16") for note in found["notes"])
    sides = found["provenance"]
    assert (sides["samples"]["shape"], sides["reference"]["shape"]) == ([3, 8, 8], [3, 16, 16])
    alike = data(capsys, "evaluate", small, "--reference", write_images("other", 6, seed=9), *FID)
    assert not any("pixels" in note for note in alike["notes"])


@pytest.mark.parametrize(("size", "channels", "got"), [(16, 3, "3x16x16"), (8, 1, "1x8x8"), (9, 3, "3x9x9")])
def test_a_classifier_of_another_shape_is_refused_before_it_is_trained(capsys, monkeypatch, size, channels, got):
    monkeypatch.setattr("adaln.metrics.classifier.train", lambda data: pytest.fail("was trained"))
    classes = {f"{name}/{i}.png": png(pixels(i, 8, 8)) for name in ("a", "b") for i in range(6)}
    write_folder(Path("labelled"), classes)
    write_folder(Path("ours"), {f"{i}.png": png(pixels(i, size, size, channels)) for i in range(6)})
    line = fails(capsys, "evaluate", "ours", "--reference", "labelled")
    assert f"samples are {got} (channels, height, width), the reference 3x8x8" in line
    if channels == 1:
        line = fails(capsys, *TRAIN, "--out", "other", "--evaluate.at", "4", "--evaluate.reference", "labelled")
        assert "samples are 1x8x8" in line and not Path("other").exists()


@pytest.mark.parametrize(("ours", "theirs"), [(2, 9), (3, 3), (9, 2), (9, 3)])
def test_scores_that_need_more_images_are_named_and_the_others_given(capsys, ours, theirs):
    a, b = write_images("a", ours), write_images("b", theirs, seed=50)
    found = data(capsys, "evaluate", a, "--reference", b, *FEATURES)
    assert list(found["scores"]) == ["fid"]
    left_out = [note for note in found["notes"] if "is left out: it needs at least 4 images on either side" in note]
    assert [note.split()[0] for note in left_out] == ["Precision", "Recall"]


@pytest.mark.parametrize(
    ("count", "words", "said"),
    [
        (1, (), "a: got 1 image, expected at least 2, which FID needs of either side"),
        (3, ("--metrics", "recall"), "a: got 3 images, expected at least 4, which Recall needs of either side"),
        (3, ("--metrics", "fid", "kid"), "a: got 3 images, expected at least 4, which KID needs"),
        (9, ("--num-images", "3", "--metrics", "kid"), "a: got 3 images, expected at least 4, which KID needs"),
        (9, ("--num-images", "0"), "num_images is 0; expected at least 1"),
        (9, ("--num-images", "-2"), "num_images is -2; expected at least 1"),
        (9, ("--replicates", "-1"), "replicates is -1; expected 0 for no bootstrap, or at least 2"),
        (9, ("--replicates", "1"), "replicates is 1; expected 0 for no bootstrap, or at least 2"),
        (9, ("--batch-size", "0"), "batch_size is 0; expected at least 1 image"),
        (9, ("--weights", "w.pth", *FEATURES), "weights 'w.pth' are Inception's, features are 'corner_means:means'"),
    ],
)
def test_what_cannot_be_computed_is_refused_before_a_classifier_is_trained(capsys, monkeypatch, count, words, said):
    monkeypatch.setattr("adaln.metrics.classifier.train", lambda data: pytest.fail("was trained"))
    assert said in fails(capsys, "evaluate", write_images("a", count), "--reference", "digits", *words)


def test_a_run_is_not_trained_whose_samples_are_too_few_to_score(capsys):
    line = fails(capsys, *TRAIN, "--out", "other", "--evaluate.at", "4", "--evaluate.num-images", "1")
    assert "num_images is 1; expected at least 2 to score" in line and not Path("other").exists()


@pytest.mark.parametrize("write", [write_folder, write_zip, write_tar])
def test_what_was_passed_over_is_said_of_either_side(capsys, write):
    others = {"notes.txt": b"notes", "._0.png": b"fork", "@eaDir/0.png": png(pixels(7, 8, 8)), "labels.csv": b"a,b"}
    path = Path("set.tar" if write is write_tar else "set.zip" if write is write_zip else "set")
    write(path, {f"{i}.png": png(pixels(i, 8, 8)) for i in range(6)} | others)
    theirs = write_images("theirs", 6, seed=30)
    found = data(capsys, "evaluate", path, "--reference", theirs, *FID)
    (note,) = [note for note in found["notes"] if note.startswith("passed over beside the samples: ")]
    assert all(kind in note for kind in ("1 .txt", "1 hidden", "1 @eaDir", "1 .csv"))
    assert len(found["provenance"]["samples"]["passed_over"]) == 4 and found["scores"]["fid"]["num_samples"] == 6
    other_way = data(capsys, "evaluate", theirs, "--reference", path, *FID)
    assert any(note.startswith("passed over beside the reference images: ") for note in other_way["notes"])
    assert "passed over: " in run(capsys, "stats", path, "s.npz", *FEATURES[:2])


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "a.npy",
            "is a NumPy array; expected a folder, zip or tar of pictures, or an npz (arr_0: uint8",
        ),
        ("array", "np.savez(OUT, arr_0=images)"),
        ("a.png", "is a PNG picture"),
        ("a.json", "is a JSON text"),
        ("a.npz", "is a NumPy array; expected an npz"),
        ("empty", "is an empty file"),
    ],
)
def test_a_file_that_holds_neither_images_nor_statistics_is_called_what_it_is(capsys, name, said):
    content = {"a.png": png(pixels(0)), "a.json": b"{}", "empty": b""}.get(name)
    if content is None:
        with Path(name).open("wb") as file:
            np.save(file, np.zeros((6, 8, 8, 3), np.uint8))
    else:
        Path(name).write_bytes(content)
    for words in ((name, "--reference", "x.npz"), ("x.npz", "--reference", name)):
        for features in ((), FEATURES):
            line = fails(capsys, "evaluate", *words, *features)
            assert said in line and "npz" in line and name in line


@pytest.mark.parametrize("name", ["a.NPZ", "a.zip", "a"])
def test_an_npz_by_any_name_is_read(capsys, name):
    with Path(name).open("wb") as file:
        np.savez(file, arr_0=np.load("x.npz")["arr_0"])
    scores = [
        data(capsys, "evaluate", path, "--reference", "digits", *FID)["scores"]["fid"] for path in (name, "x.npz")
    ]
    assert scores[0] == scores[1]


def other_samples(record):
    np.savez("y.npz", np.zeros((4, 8, 8, 1), np.uint8))
    return record


def other_number(record):
    np.savez("y.npz", np.load("x.npz")["arr_0"][:3])
    return {name: value for name, value in record.items() if name != "key"}


def other_key(record):
    Path("y.npz").write_bytes(Path("x.npz").read_bytes())
    return record | {"key": "0123456789"}


@pytest.mark.parametrize("change", [other_samples, other_number, other_key])
def test_a_record_of_other_samples_is_not_taken_for_theirs(capsys, change):
    Path("y.json").write_text(json.dumps(change(json.loads(Path("x.json").read_text()))))
    line = fails(capsys, "evaluate", "y.npz", "--reference", "digits", *FID)
    assert "y.npz: y.json beside it is the record of other samples; draw them anew or remove it" in line
    Path("y.json").unlink()
    assert data(capsys, "evaluate", "y.npz", "--reference", "digits", *FID)["provenance"]["choices"] == {}


def test_a_set_beside_itself_is_said_to_be(capsys):
    found = data(capsys, "evaluate", "x.npz", "--reference", "x.npz", *FID)
    assert "samples and reference are the very same images" in found["notes"]


def test_a_comparison_and_a_page_keep_what_was_said_of_scores_and_samples(capsys):
    one, other = (data(capsys, "evaluate", samples(step), "--reference", "digits", *FID) for step in (4, 8))
    files = one["scores_file"], other["scores_file"]
    assert data(capsys, "compare", *files)["notes"][0] == f"{files[0]}: {one['notes'][0]}"
    shown = run_page(Run.open("r")).sections
    (grid,) = next(section.blocks for section in shown if section.heading == "Samples")
    assert "of 8 samples of averaged weights of step 8 in" in grid.caption


def test_scores_of_samples_of_two_sizes_are_not_comparable(capsys):
    reference = write_images("theirs", 6)
    files = [
        data(capsys, "evaluate", write_images(f"s{size}", 6, size), "--reference", reference, *FID)["scores_file"]
        for size in (8, 16)
    ]
    assert "samples.size: 8x8, 16x16" in run(capsys, "compare", *files)
