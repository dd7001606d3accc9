"""`adaln evaluate`, `stats`, `compare` and `train --evaluate.*` as a user meets them."""

import json
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from adaln.evaluation import checkpoints
from adaln.metrics import inception
from adaln.runs import Run
from adaln.views.run_page import run_page
from helpers import command_line
from helpers.autoencoders import save_autoencoder
from helpers.command_line import SMALL, data, run
from helpers.inception import seeded_weights
from helpers.pictures import two_classes, write_folder

MEANS = """
import torch

def means(images: torch.Tensor) -> torch.Tensor:
    return images.float().reshape(len(images), 4, -1).mean(dim=2) / 255

def others(images: torch.Tensor) -> torch.Tensor:
    return means(images) + 1

others.fingerprint = "another"

def sick(images: torch.Tensor) -> torch.Tensor:
    return means(images) / 0
"""
MEAN_FEATURES = ("--features", "quarter_means:means")
SAVED = [*SMALL, "--checkpoint-every", "2"]
FAST = ("--evaluate.num-images", "20", "--evaluate.sampler.solver", "ddim", "--evaluate.sampler.steps", "2")


def fails(capsys, *words) -> str:
    """The one line of a command that exits with 2 and writes nothing."""
    before = sorted(Path().rglob("*"))
    line = command_line.fails(capsys, *words)
    assert sorted(Path().rglob("*")) == before
    return line


def pictures(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A working directory with features that cost nothing, and two sets of pictures."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*sys.path])
    (tmp_path / "quarter_means.py").write_text(MEANS)
    sys.dont_write_bytecode, before = True, sys.dont_write_bytecode
    np.savez("ours.npz", arr_0=pictures(40))
    np.savez("theirs.npz", arr_0=pictures(50, seed=1))
    yield
    sys.dont_write_bytecode = before
    sys.modules.pop("quarter_means", None)
    checkpoints.reference.cache_clear()


@pytest.fixture
def trained(capsys) -> Path:
    return Path(data(capsys, "train", "digits", *SAVED)["run"])


def write_pictures(images: np.ndarray) -> None:
    """As a folder and as a zip."""
    Path("folder").mkdir(exist_ok=True)
    for i, image in enumerate(images):
        Image.fromarray(image).save(f"folder/{i:03d}.png")
    with zipfile.ZipFile("a.zip", "w") as archive:
        for file in sorted(Path("folder").iterdir()):
            archive.write(file)


def test_the_folder_of_a_diffusers_model_is_no_run(capsys):
    folder = Path("model")
    folder.mkdir()
    (folder / "config.json").write_text('{"_class_name": "DiTTransformer2DModel"}')
    assert "no images" in fails(capsys, "evaluate", folder, "--reference", "ours.npz", *MEAN_FEATURES)
    assert "no images" in fails(capsys, "evaluate", "ours.npz", "--reference", folder, *MEAN_FEATURES)


def test_any_container_of_the_same_pictures_gives_the_same_score_and_hash(capsys):
    write_pictures(pictures(50, seed=1))
    run(capsys, "stats", "theirs.npz", "ref.npz", *MEAN_FEATURES)
    found = [
        data(capsys, "evaluate", "ours.npz", "--reference", name, *MEAN_FEATURES)
        for name in ("theirs.npz", "folder", "a.zip", "ref.npz")
    ]
    assert all(one["scores"] == found[0]["scores"] for one in found)
    assert len({one["provenance"]["reference"]["sha256"] for one in found}) == 1
    assert [one["scores"]["fid"]["num_reference"] for one in found] == [50] * 4


def test_the_record_names_both_sides_the_features_and_the_versions(capsys):
    shown = run(capsys, "evaluate", "ours.npz", "--reference", "theirs.npz", *MEAN_FEATURES, "--num-images", "30")
    assert "quarter_means:means features, not comparable with Inception FID" in shown
    assert "bootstrap of 200" in shown and "[" in shown
    (file,) = Path().glob("ours-*.scores.json")
    record = json.loads(file.read_text())["provenance"]
    assert (record["samples"]["num_images"], record["reference"]["num_images"]) == (30, 50)
    assert all(len(record[side]["sha256"]) == 64 for side in ("samples", "reference"))
    assert record["extractor"]["name"] == "quarter_means:means" and len(record["extractor"]["fingerprint"]) == 64
    assert record["dtypes"] == {"features": "float32", "algebra": "float64"}
    assert {"torch", "numpy", "scipy", "python", "adaln"} == set(record["versions"])


def test_a_dry_evaluation_says_what_is_made_first_how_long_it_takes_and_writes_nothing(
    capsys, trained, monkeypatch, tmp_path
):
    monkeypatch.setenv("ADALN_CACHE", str(tmp_path / "cache"))
    words = ("evaluate", trained, "--reference", "digits", "--device", "cpu", "--num-images", "20", "--dry-run")
    run(capsys, *words)  # measures the machine, which is kept in the cache
    before = sorted(Path().rglob("*"))
    said = run(capsys, *words)
    assert said.startswith(f"drawn first: 20 images of step 4 of {trained} by ddpm, 250 updates each\n")
    assert "dataset-classifier of 1,817 images, against digits; first a classifier of 1,797 images is trained" in said
    assert "\ntime: about " in said and "of which samples" in said and "\ndisk: 0.00128 MB" in said
    assert said.endswith("nothing was drawn, trained, fetched or written\n")
    unfetched = run(capsys, *words, "--features", "inception", "dataset-classifier")
    assert "first its weights are fetched (96 MB)" in unfetched and "\ntime: at least " in unfetched
    assert sorted(Path().rglob("*")) == before
    assert "got 1 image, expected at least 2" in fails(capsys, *words[:-2], "1", "--dry-run")
    assert "no samples yet" in fails(capsys, "evaluate", trained, "--reference", "digits", "--dry-run")


def test_a_dry_evaluation_of_images_counts_both_sides_and_a_check_takes_three_times_as_long(capsys):
    words = ("evaluate", "ours.npz", "--reference", "theirs.npz", "--validation", "ours.npz", *MEAN_FEATURES)
    (of_features,) = (whole := data(capsys, *words, "--dry-run"))["features"]
    assert (of_features["num_images"], of_features["first"], whole["drawn"]) == (130, "", None)
    checked = data(capsys, *words, "--dry-run", "--check")
    assert checked["seconds"] == pytest.approx(3 * checked["features"][0]["seconds"])
    assert not [*Path().glob("*.scores.json")]


def test_dry_statistics_say_what_is_learnt_first_and_write_nothing(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("ADALN_CACHE", str(tmp_path / "cache"))
    said = run(capsys, "stats", "digits", "out.npz", "--device", "cpu", "--dry-run")
    assert said.startswith(
        "out.npz: dataset-classifier features of 1,797 images of digits; first a classifier of 1,797 images is trained"
    )
    assert "\ntime: about " in said and said.endswith("\nnothing was trained, fetched or written\n")
    assert not Path("out.npz").exists() and not [*(tmp_path / "cache").rglob("classifier*")]


def test_a_dry_sweep_counts_its_ways(capsys, trained):
    before = sorted(Path().rglob("*"))
    words = ("sweep", trained, "--over.guidance", "1", "2", "--num-images", "20", "--device", "cpu", "--dry-run")
    said = run(capsys, *words)
    assert said.startswith(f"4 ways to sample step 4 of {trained}, 20 images each: 4 to be drawn")
    assert "\ntime: about " in said and sorted(Path().rglob("*")) == before
    assert "num_images is 1; FID" in fails(capsys, *words, "--num-images", "1")


def test_a_check_is_a_table_and_in_the_file_and_two_functions_of_a_module_are_two_ways(capsys):
    Path("two_features.py").write_text(MEANS + "again = means\n")
    words = ("evaluate", "ours.npz", "--reference", "theirs.npz", "--metrics", "fid", "--check", "--batch-size", "16")
    assert "By how much a score moves" in run(capsys, *words, "--features", "two_features:means")
    found = [data(capsys, *words, "--features", f"two_features:{name}") for name in ("means", "again")]
    assert list(found[0]["moves"]) == ["batches of 8", "bfloat16"]
    assert found[0]["scores_file"] != found[1]["scores_file"]


def test_fdr_over_several_features_is_the_mean_of_theirs(capsys):
    np.savez("held-out.npz", arr_0=pictures(30, seed=2))
    words = ("evaluate", "ours.npz", "--reference", "theirs.npz", "--replicates", "0", "--metrics", "fdr")
    both = (*words, "--validation", "held-out.npz", "--features", "quarter_means:means", "quarter_means:others")
    found = data(capsys, *both)
    each = [of["scores"]["fdr"]["value"] for of in found["by_features"]]
    assert found["mean_fdr"] == pytest.approx(sum(each) / 2)
    assert len({of["scores_file"] for of in found["by_features"]}) == 2
    assert "FDr, the mean over 2 feature spaces" in run(capsys, *both)
    assert "2 features give one each" in fails(capsys, *both, "--out", "scores.json")
    assert "got none (--validation)" in fails(capsys, *words, *MEAN_FEATURES)


def test_another_way_of_scoring_leaves_the_first_file_alone_and_the_same_way_replaces_it(capsys):
    words = ("evaluate", "ours.npz", "--reference", "theirs.npz", *MEAN_FEATURES)
    files = [
        data(capsys, *words, *more)["scores_file"] for more in ((), ("--metrics", "kid"), ("--num-images", "9"), ())
    ]
    assert len(set(files)) == 3 and files[0] == files[3]
    assert all(Path(file).is_file() for file in files)


def test_only_the_metrics_asked_for_are_computed(capsys):
    words = ("evaluate", "ours.npz", "--reference", "theirs.npz", *MEAN_FEATURES, "--metrics", "kid", "recall")
    assert list(data(capsys, *words)["scores"]) == ["kid", "recall"]


def test_a_run_without_samples_draws_as_many_as_asked_and_keeps_them(capsys, trained, monkeypatch):
    line = fails(capsys, "evaluate", trained, "--reference", trained, *MEAN_FEATURES)
    assert "has no samples yet; say --num-images N" in line
    monkeypatch.setattr("adaln.processes.solvers._steps", lambda process, sampler: 2)
    found = data(capsys, "evaluate", trained, "--reference", trained, *MEAN_FEATURES, "--num-images", "12")
    (samples,) = trained.glob("samples/*.npz")
    with np.load(samples) as archive:
        assert archive["arr_0"].shape == (12, 8, 8, 1)
    assert found["provenance"]["choices"]["run"] == trained.name
    assert found["provenance"]["reference"]["name"] == "digits"
    assert Path(found["scores_file"]).parent == samples.parent
    again = data(capsys, "evaluate", trained, "--reference", "digits", *MEAN_FEATURES)
    assert again["scores"] == found["scores"]
    line = fails(capsys, "evaluate", trained, "--reference", "digits", *MEAN_FEATURES, "--num-images", "13")
    assert "samples of 12 images at most, asked for are 13; adaln sample" in line


def test_statistics_have_adm_s_keys_and_stand_for_their_images(capsys):
    told = data(capsys, "stats", "theirs.npz", "ref.npz", *MEAN_FEATURES)
    assert told["origin"]["num_images"] == 50 and told["dim"] == 4
    with np.load("ref.npz") as file:
        assert file["mu"].shape == (4,) and file["sigma"].shape == (4, 4) and file["mu"].dtype == np.float64
        expected = pictures(50, seed=1).transpose(0, 3, 1, 2).reshape(50, 4, -1).mean(axis=2) / 255
        np.testing.assert_allclose(file["mu"], expected.mean(axis=0), rtol=1e-6)
        np.testing.assert_allclose(file["sigma"], np.cov(expected, rowvar=False), rtol=1e-5)
    images = data(capsys, "evaluate", "ours.npz", "--reference", "theirs.npz", *MEAN_FEATURES)
    assert data(capsys, "evaluate", "ours.npz", "--reference", "ref.npz")["scores"] == images["scores"]
    run(capsys, "stats", "theirs.npz", "short.npz", *MEAN_FEATURES, "--no-rows")
    assert list(data(capsys, "evaluate", "ours.npz", "--reference", "short.npz")["scores"]) == ["fid"]


def test_both_sides_may_be_statistics(capsys):
    for name in ("ours", "theirs"):
        run(capsys, "stats", f"{name}.npz", f"{name}-stats.npz", *MEAN_FEATURES)
    found = data(capsys, "evaluate", "ours-stats.npz", "--reference", "theirs-stats.npz", "--replicates", "0")
    images = data(capsys, "evaluate", "ours.npz", "--reference", "theirs.npz", *MEAN_FEATURES, "--replicates", "0")
    assert found["scores"]["fid"]["value"] == pytest.approx(images["scores"]["fid"]["value"], rel=1e-12)


def test_the_classifier_of_statistics_is_found_again_and_labels_make_it_the_default(capsys, monkeypatch):
    monkeypatch.setattr("adaln.metrics.classifier.FEWEST_STEPS", 3)
    monkeypatch.setattr("adaln.metrics.classifier.MOST_STEPS", 3)
    run(capsys, "stats", "digits", "digits.npz")
    np.savez("grey.npz", arr_0=pictures(80)[..., :1])
    beside = [data(capsys, "evaluate", "grey.npz", "--reference", name) for name in ("digits.npz", "digits")]
    assert beside[0]["scores"] == beside[1]["scores"]
    assert beside[0]["provenance"]["extractor"]["name"] == "dataset-classifier"
    monkeypatch.setenv("ADALN_CACHE", "elsewhere")
    assert "is not in the cache here" in fails(capsys, "evaluate", "grey.npz", "--reference", "digits.npz")


def test_fewer_images_than_features_is_told_with_the_bias_it_brings(capsys):
    np.savez("few.npz", arr_0=pictures(4))
    shown = " ".join(run(capsys, "evaluate", "few.npz", "--reference", "theirs.npz", *MEAN_FEATURES).split())
    assert "4 samples for 4 features: the covariance is singular and FID is biased upwards" in shown
    assert "biased upwards" in run(capsys, "stats", "few.npz", "few-stats.npz", *MEAN_FEATURES)


def no_array() -> None:
    np.savez("bad.npz", images=pictures(3))


def floats() -> None:
    np.savez("bad.npz", arr_0=np.full((4, 8, 8, 3), np.nan, np.float32))


def four_channels() -> None:
    np.savez("bad.npz", arr_0=np.zeros((9, 8, 8, 4), np.uint8))


def cut_short() -> None:
    content = Path("ours.npz").read_bytes()
    Path("bad.npz").write_bytes(content[: len(content) // 2])


@pytest.mark.parametrize("side", ["samples", "reference", "stats"])
@pytest.mark.parametrize(
    ("make", "said"),
    [
        (no_array, "bad.npz: has no 'arr_0', got ['images']"),
        (floats, "bad.npz: got float32 images, expected uint8"),
        (four_channels, "bad.npz: got shape (9, 8, 8, 4), expected (N, H, W, C)"),
        (cut_short, "bad.npz' is not an intact npz"),
    ],
)
def test_a_bad_npz_on_either_side_is_one_line(capsys, make, said, side):
    make()
    words = {
        "samples": ("evaluate", "bad.npz", "--reference", "theirs.npz"),
        "reference": ("evaluate", "ours.npz", "--reference", "bad.npz"),
        "stats": ("stats", "bad.npz", "out.npz"),
    }[side]
    assert said in fails(capsys, *words, *MEAN_FEATURES)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("evaluate", "ours.npz", "--reference", "theirs.npz", "--num-images", "41"),
            "got 40 images, expected at least 41",
        ),
        (("evaluate", "ours.npz", "--reference", "theirs.npz", "--metrics", "fidd"), "'fidd' (nearest: 'fid')"),
        (("evaluate", "ours.npz", "--reference", "theirs.npz", "--metrics", "is"), "gives no class probabilities"),
        (("evaluate", "ours.npz", "--reference", "nowhere.npz"), "nowhere.npz: does not exist"),
        (("evaluate", "ours.npz", "--reference", "nowhere"), "no data at 'nowhere'"),
        (("evaluate", "nowhere", "--reference", "theirs.npz"), "no data at 'nowhere'"),
        (("stats", "theirs.npz", "out.pt"), "expected a name that ends in .npz"),
        (("stats", "theirs.npz"), "expected the statistics file"),
        (("stats", "theirs.npz", "out.npz", "--num-images", "51"), "got 50 images, expected at least 51"),
    ],
)
def test_a_bad_request_is_one_line(capsys, words, said):
    words = words if "out.pt" in words or len(words) < 3 else (*words, *MEAN_FEATURES)
    assert said in fails(capsys, *words)


def test_mixed_extractors_are_one_line(capsys):
    run(capsys, "stats", "theirs.npz", "ref.npz", *MEAN_FEATURES)
    words = ("evaluate", "ours.npz", "--reference", "ref.npz", "--features", "quarter_means:others")
    assert "different extractors: quarter_means:others (another) and quarter_means:means" in fails(capsys, *words)
    assert "holds statistics already" in fails(capsys, "stats", "ref.npz", "again.npz")
    cut = ("evaluate", "ref.npz", "--reference", "theirs.npz", *MEAN_FEATURES, "--num-images", "5")
    assert "statistics, which cannot be cut" in fails(capsys, *cut)


def test_features_that_are_nan_name_the_image(capsys):
    words = ("evaluate", "ours.npz", "--reference", "theirs.npz", "--features", "quarter_means:sick")
    assert "the pooled features of image 0 are NaN, infinite or too large" in fails(capsys, *words)


def test_adm_s_statistics_ask_for_inception_and_say_where_its_weights_belong(capsys, monkeypatch):
    np.savez("adm.npz", mu=np.zeros(2048), sigma=np.eye(2048))

    def offline(*words, **options):
        raise OSError("no network")

    monkeypatch.setattr(inception.urllib.request, "urlopen", offline)
    monkeypatch.setenv("ADALN_CACHE", "cache")
    Path("cache").mkdir()
    line = fails(capsys, "evaluate", "ours.npz", "--reference", "adm.npz")
    assert f"put {inception.FILE} from {inception.URL} at cache" in line
    words = ("evaluate", "ours.npz", "--reference", "adm.npz", *MEAN_FEATURES)
    assert "statistics of Inception features, got extractor 'quarter_means:means'" in fails(capsys, *words)


@pytest.mark.slow
def test_inception_features_give_all_of_adm_s_scores_and_keys(capsys, monkeypatch):
    torch.save(seeded_weights(), "weights.pth")
    monkeypatch.setattr(inception, "SHA256", inception.file_sha256(Path("weights.pth")))
    given = ("--features", "inception", "--weights", "weights.pth", "--device", "cpu")
    run(capsys, "stats", "theirs.npz", "ref.npz", "--num-images", "8", *given)
    with np.load("ref.npz") as file:
        shapes = {name: file[name].shape for name in ("mu", "sigma", "mu_s", "sigma_s")}
    assert shapes == {"mu": (2048,), "sigma": (2048, 2048), "mu_s": (2023,), "sigma_s": (2023, 2023)}
    found = data(capsys, "evaluate", "ours.npz", "--reference", "ref.npz", "--num-images", "8", *given)
    assert list(found["scores"]) == ["fid", "sfid", "is", "precision", "recall"]
    assert found["scores"]["fid"]["label"].startswith("Inception-2015 features")
    assert found["provenance"]["extractor"]["fingerprint"] == inception.SHA256
    assert found["unlike_published"][0] == "samples: 8, 50000"
    assert "features" not in " ".join(found["unlike_published"])


def test_a_corrupt_weights_file_is_one_line(capsys):
    torch.save({"fc.weight": torch.zeros(3)}, "weights.pth")
    words = ("evaluate", "ours.npz", "--reference", "theirs.npz", "--features", "inception", "--weights", "weights.pth")
    assert "weights.pth: damaged or another file, got SHA-256" in fails(capsys, *words)


def test_without_labels_the_classifier_says_that_inception_needs_none(capsys):
    line = fails(capsys, "evaluate", "ours.npz", "--reference", "theirs.npz", "--features", "dataset-classifier")
    assert "need the labelled images" in line and "inception" in line


def test_a_run_scored_while_it_trains_shows_its_curve(capsys):
    words = ("train", "digits", *SAVED, "--evaluate.every", "2", "--evaluate.features", "quarter_means:means", *FAST)
    found = data(capsys, *words)
    assert list(found["scores"]) == ["2", "4"] and found["scores"]["2"]["fid"] > 0
    files = {file: file.stat().st_mtime_ns for file in Path(found["run"]).glob("scores/*")}
    assert "ddim in 2 steps" in run(capsys, *words)
    assert {file: file.stat().st_mtime_ns for file in Path(found["run"]).glob("scores/*")} == files
    (section,) = (one for one in run_page(Run.open(found["run"])).sections if one.heading == "Scores")
    table, fid, *_ = section.blocks
    assert [row[0] for row in table.rows] == [2, 4]
    assert fid.title == "FID-like against steps" and fid.series[0].x == [2, 4]
    assert list(fid.series[0].y) == [found["scores"][step]["fid"] for step in ("2", "4")]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--evaluate.at", "3"), "asks for step 3, which leaves no checkpoint"),
        (("--evaluate.every", "2", "--evaluate.features", "quarter_mean:means"), "No module named 'quarter_mean'"),
        (("--evaluate.every", "2", "--evaluate.reference", "nowhere.npz"), "nowhere.npz: does not exist"),
        (("--evaluate.every", "2", "--evaluate.sampler.solver", "dddim"), "nearest: 'ddim'"),
        (
            ("--evaluate.at", "4", "--data.no-conditional", "--evaluate.guidance.scale", "2"),
            "the model is unconditional",
        ),
        (("--evaluate.every", "2", "--evaluate.labels", "10"), "expected balanced, random or a class from 0 to 9"),
    ],
)
def test_what_cannot_be_scored_is_said_before_training(capsys, words, said):
    assert said in fails(capsys, "train", "digits", *SAVED, *words)


def test_a_run_on_latents_is_scored_in_pixels_against_pictures(capsys, tmp_path):
    vae = save_autoencoder(tmp_path / "tiny-vae")
    write_folder(Path("set"), two_classes(height=8, width=8))
    run(capsys, "encode", "set", "latents", "--autoencoder", vae, "--device", "cpu")
    words = ("train", "digits", *SAVED, "--data.path", "latents", "--evaluate.at", "4", *FAST)
    assert "holds latents, not images" in fails(capsys, *words)
    features = ("--evaluate.features", "quarter_means:means", "--evaluate.reference", "set")
    found = data(capsys, *words, *features)
    assert found["scores"]["4"]["fid"] > 0
    (file,) = Path(found["run"]).glob("scores/*.scores.json")
    record = json.loads(file.read_text())["provenance"]
    assert (record["reference"]["num_images"], record["samples"]["num_images"]) == (6, 20)
    assert record["choices"]["decoder"]["scaling_factor"] == 0.5


@pytest.fixture
def two_runs(capsys) -> list[str]:
    common = ("train", "digits", *SAVED, "--evaluate.features", "quarter_means:means", *FAST)
    schemes = ("adaln-zero", "adaln-gaussian")
    return [data(capsys, *common, "--scheme", scheme, "--evaluate.every", "2")["run"] for scheme in schemes]


@pytest.mark.slow
def test_scores_made_alike_are_called_comparable(capsys, two_runs):
    shown = " ".join(run(capsys, "compare", *two_runs, "--strict").split())
    first, second = (Path(path).name for path in two_runs)
    assert f"scores of {second} are comparable with those of {first}" in shown
    assert "NOT" not in shown
    found = data(capsys, "compare", *two_runs)
    assert found["score_conflicts"] == {second: []}
    assert [row["scored at"] for row in found["runs"]] == [4, 4]
    assert found["unlike_published"][first][0] == "features: quarter_means:means, inception"


@pytest.mark.slow
def test_scores_made_otherwise_are_refused_by_name_of_the_choice(capsys, two_runs):
    words = ("--sampler.solver", "ddim", "--sampler.steps", "3", "--num-images", "25")
    samples = data(capsys, "sample", two_runs[1], *words)["samples"]
    other = data(capsys, "evaluate", samples, "--reference", "digits", *MEAN_FEATURES)["scores_file"]
    shown = " ".join(run(capsys, "compare", two_runs[0], other).split())
    assert f"scores of {other} are NOT comparable" in shown
    assert "samples.num_images: 20, 25; choices.sampler.steps: 2, 3" in shown
    line = fails(capsys, "compare", two_runs[0], other, "--strict")
    assert "not comparable" in line and "choices.sampler.steps: 2, 3" in line
    # of the second run's scores, those made as the first's are chosen
    assert data(capsys, "compare", *two_runs)["score_conflicts"] == {Path(two_runs[1]).name: []}


@pytest.mark.slow
def test_runs_without_scores_and_files_of_something_else_are_told(capsys, trained, two_runs):
    shown = run(capsys, "compare", two_runs[0], trained)
    assert f"{trained.name} has no scores" in shown if trained.name != Path(two_runs[0]).name else shown
    Path("odd.json").write_text("{}")
    assert "'odd.json' is not a file of scores" in fails(capsys, "compare", two_runs[0], "odd.json")
    assert "is not a run" in fails(capsys, "compare", two_runs[0], "nowhere")
    assert "expected two runs or more" in fails(capsys, "compare", two_runs[0])
