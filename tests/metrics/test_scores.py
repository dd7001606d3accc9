"""One call from two sources to scores: what is recorded, what is refused, and when."""

import json
from dataclasses import replace

import numpy as np
import pytest
import scipy.linalg
import torch

from adaln.codec import decode, encode
from adaln.metrics import (
    METRICS,
    Extractor,
    Features,
    Metric,
    Scores,
    compare,
    differences,
    evaluate,
    load_statistics,
    parse_source,
    rounding_differences,
    save_statistics,
    statistics,
    unlike_published,
)
from adaln.metrics.comparability import KNOWN_REFERENCES, comparable_words
from adaln.metrics.noise import COUNT as NOISE
from adaln.metrics.stability import moves
from adaln.parallel import rank
from adaln.progress import showing
from helpers.in_threads import in_processes


def pictures(count: int, seed: int = 0) -> np.ndarray:
    """Of little contrast, which sets them apart from noise."""
    return np.random.default_rng(seed).integers(112, 144, (count, 8, 8, 3), dtype=np.uint8)


def small(images: torch.Tensor) -> Features:
    """Six means per image, and three classes."""
    pool = images.float().reshape(len(images), 6, -1).mean(dim=2) / 10
    return Features(pool, pool[:, :4], pool[:, :3].softmax(dim=1))


EXTRACTOR = Extractor("small", "small features", "f" * 64, small)
POOL_ONLY = Extractor("pool-only", "pool only", "e" * 64, lambda images: Features(small(images).pool))


def scores(samples=None, reference=None, **options) -> Scores:
    ours = pictures(40) if samples is None else samples
    theirs = pictures(50, seed=1) if reference is None else reference
    return evaluate(ours, theirs, EXTRACTOR, **({"replicates": 20} | options))


def test_every_metric_has_a_value_within_its_interval():
    found = scores(metrics=[name for name in METRICS if "half" not in name], validation=pictures(30, seed=2))
    for name, score in found.scores.items():
        assert score.metric == name
        assert score.low <= score.value <= score.high
        assert (score.num_samples, score.num_reference) == (40, 50)


def test_the_default_is_what_adm_reports_as_far_as_there_are_features():
    assert list(scores().scores) == ["fid", "sfid", "is", "precision", "recall"]
    assert list(evaluate(pictures(40), pictures(50), POOL_ONLY).scores) == ["fid", "precision", "recall"]


def test_a_score_from_outside_is_one_row_asked_for_by_name_and_no_part_of_the_default(monkeypatch):
    monkeypatch.setattr(METRICS, "_entries", dict(METRICS._entries))
    METRICS.add("mean-gap", Metric("Gap", "pool", "lower", lambda c: (float(c.samples.pool.mean[0]), None), {"k": 1}))
    found = scores(metrics=["mean-gap", "fid"])
    assert list(found.scores) == ["mean-gap", "fid"]
    assert found["mean-gap"].low is None and found.provenance["settings"]["mean-gap"] == {"k": 1}
    assert "mean-gap" not in scores().scores


def test_the_record_is_plain_data_that_names_both_sides_and_the_extractor():
    found = scores(choices={"sampler": {"steps": 250}}, num_images=30)
    assert decode(Scores, json.loads(json.dumps(encode(found)))) == found
    record = found.provenance
    assert record["samples"]["num_images"] == 30
    assert record["samples"] == scores(pictures(40)[:30]).provenance["samples"]
    assert len(record["reference"]["sha256"]) == 64
    assert record["extractor"]["fingerprint"] == EXTRACTOR.fingerprint
    assert record["choices"] == {"sampler": {"steps": 250}}
    assert {"adaln", "python", "torch", "numpy", "scipy"} == set(record["versions"])
    assert record["settings"]["is"] == {"split_size": 5000}


def test_scores_are_a_function_of_their_arguments():
    assert scores() == scores()
    assert scores(metrics=["fid"])["fid"] == scores()["fid"]


def test_collected_statistics_score_as_their_images_do():
    ours, theirs = (statistics(pictures(n, s), EXTRACTOR) for n, s in ((40, 0), (50, 1)))
    assert compare(ours, theirs, replicates=20) == scores()
    assert scores(ours, theirs) == scores()


def test_fewer_images_than_features_is_noted_as_a_bias():
    (note,) = scores(pictures(5)).notes
    assert "5 samples for 6 features" in note
    assert "biased upwards" in note
    assert scores().notes == ()


def one_feature(images: torch.Tensor) -> Features:
    return Features(images.float().mean(dim=(1, 2, 3), keepdim=True)[:, :, 0, 0])


def of_calm_pictures(images: torch.Tensor) -> Features:
    if images.float().std() > 50:
        raise RuntimeError("no face found")
    return small(images)


def test_where_noise_is_as_precise_it_is_said_and_else_it_costs_nothing():
    bright = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)
    (note,) = evaluate(bright[:20], bright[20:], Extractor("mean", "", "a" * 64, one_feature), replicates=0).notes
    assert note.startswith("precision says little here: 32 pictures of pure noise have one of ")
    assert "beside these 20 reference images" in note
    assert evaluate(bright[:20], bright[20:], EXTRACTOR, ["fid"], replicates=0).notes == ()  # nor is it looked at
    faces = Extractor("faces", "", "b" * 64, of_calm_pictures)
    assert evaluate(pictures(20), pictures(20, 1), faces, replicates=0).notes == ()


def test_each_side_is_a_stage_of_progress():
    seen: list[tuple[str, int, int, str]] = []
    with showing(lambda *call: seen.append(call)):
        scores(batch_size=32)
    assert [call[1:3] for call in seen] == [(32, 50), (50, 50), (32, 40), (40, 40)]


def failing(images: torch.Tensor) -> Features:
    raise AssertionError("images were read")


UNREAD = Extractor("unread", "", "d" * 64, failing)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metrics": ["fidd"]}, r"unknown score 'fidd' \(nearest: 'fid'\)"),
        ({"num_images": 41}, "got 40 images, expected at least 41"),
    ],
)
def test_what_is_wrong_with_a_request_is_said_before_any_image_is_read(options, message):
    with pytest.raises(ValueError, match=message):
        evaluate(pictures(40), pictures(50), UNREAD, **options)


def test_bad_samples_are_refused_before_the_reference_is_read(tmp_path):
    np.savez(tmp_path / "a.npz", images=pictures(3))
    with pytest.raises(ValueError, match="has no 'arr_0'"):
        evaluate(tmp_path / "a.npz", pictures(50), UNREAD)


def test_a_score_without_its_features_is_refused_at_the_first_batch():
    seen: list[int] = []

    def counting(images: torch.Tensor) -> Features:
        seen.append(len(images))
        return Features(small(images).pool)

    extractor = Extractor("counting", "", "c", counting)
    reference = statistics(pictures(50), extractor)
    seen.clear()
    with pytest.raises(ValueError, match="counting gives no spatial features"):
        evaluate(pictures(40), reference, extractor, ["sfid"], batch_size=10)
    assert seen == [10]


def test_mixed_extractors_are_refused_before_the_samples_are_read():
    with pytest.raises(ValueError, match=r"different extractors: unread \(d+\) and small \(f+\)"):
        evaluate(pictures(40), statistics(pictures(50), EXTRACTOR), UNREAD)
    with pytest.raises(ValueError, match="different extractors"):
        compare(statistics(pictures(40), POOL_ONLY), statistics(pictures(50), EXTRACTOR))
    other = replace(EXTRACTOR, name="module:other")  # of one module, whose source is the fingerprint of both
    with pytest.raises(ValueError, match=r"different extractors: module:other \(f+\) and small \(f+\)"):
        evaluate(statistics(pictures(40), EXTRACTOR), statistics(pictures(50), EXTRACTOR), other)


@pytest.mark.parametrize(("part", "words"), [(0, "pooled features"), (1, "spatial features"), (2, "class probabilit")])
@pytest.mark.parametrize("value", [torch.nan, torch.inf, 1e30])
def test_features_without_finite_squares_name_their_image(part, words, value):
    bad = pictures(9)
    bad[7] = 255

    def network(images: torch.Tensor) -> Features:
        seen = small(images)
        parts = [seen.pool, seen.spatial, seen.probs]
        parts[part] = torch.where((seen.pool == 25.5).all(dim=1, keepdim=True), value, parts[part])
        return Features(*parts)

    with pytest.raises(ValueError, match=f"array: the {words}.* of image 7 are NaN, infinite or too large"):
        statistics(bad, Extractor("sick", "", "0", network), batch_size=4)


def test_features_whose_number_changes_from_image_to_image_are_refused():
    growing = Extractor("growing", "", "0", lambda images: Features(images.float().flatten(1)[:, : 2 + len(images)]))
    with pytest.raises(ValueError, match="array: 3 pooled features of image 8, 6 of each before; expected as many"):
        statistics(pictures(9), growing, batch_size=4)


def test_a_record_of_something_else_is_refused():
    with pytest.raises(ValueError, match="unknown field 'fid' of Scores"):
        decode(Scores, {"fid": 3})


def test_saved_statistics_score_as_the_images_they_are_of(tmp_path):
    save_statistics(statistics(pictures(50, seed=1), EXTRACTOR), tmp_path / "ref.npz")
    assert scores(reference=tmp_path / "ref.npz") == scores()
    assert [file.name for file in tmp_path.iterdir()] == ["ref.npz"]
    with np.load(tmp_path / "ref.npz") as file:
        assert {"mu", "sigma", "mu_s", "sigma_s"} <= set(file.files)
        assert file["sigma"].dtype == np.float64


def test_statistics_without_rows_serve_frechet_distances_alone(tmp_path):
    save_statistics(statistics(pictures(50, seed=1), EXTRACTOR), tmp_path / "ref.npz", rows=False)
    assert list(scores(reference=tmp_path / "ref.npz").scores) == ["fid", "sfid", "is"]
    with pytest.raises(ValueError, match="has no features of single images"):
        scores(reference=tmp_path / "ref.npz", metrics=["precision"])


def test_statistics_cannot_be_cut():
    with pytest.raises(ValueError, match="9 images asked for of statistics"):
        scores(statistics(pictures(40), EXTRACTOR), num_images=9)


def write_adm_reference(path, images: np.ndarray, **more: np.ndarray) -> None:
    """ADM's layout: statistics of a whole data set beside some of its images."""
    whole = statistics(images, EXTRACTOR)
    arrays = {"mu": whole.pool.mean, "sigma": whole.pool.covariance}
    arrays |= {"mu_s": whole.spatial.mean, "sigma_s": whole.spatial.covariance}
    np.savez(path, **{name: tensor.numpy() for name, tensor in arrays.items()}, **more)


def test_adms_reference_gives_frechet_distances_from_its_statistics_and_the_rest_from_its_images(tmp_path):
    named = Extractor("inception", "", "f" * 64, small)
    whole, some = pictures(300, seed=1), pictures(20, seed=2)
    write_adm_reference(tmp_path / "adm.npz", whole, arr_0=some)
    found = evaluate(pictures(40), tmp_path / "adm.npz", named, replicates=0)
    for reference, names in ((whole, ["fid", "sfid"]), (some, ["precision", "recall"])):
        expected = evaluate(pictures(40), reference, named, names, replicates=0)
        assert [found[name].value for name in names] == [expected[name].value for name in names]
    assert [found[name].num_reference for name in ("fid", "recall")] == [0, 20]


def test_adms_statistics_are_refused_with_features_other_than_inceptions(tmp_path):
    write_adm_reference(tmp_path / "adm.npz", pictures(30))
    with pytest.raises(ValueError, match="statistics of Inception features, got extractor 'small'"):
        load_statistics(tmp_path / "adm.npz", EXTRACTOR)


def test_statistics_of_unequal_shapes_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", mu=np.zeros(3), sigma=np.zeros((2, 2)))
    with pytest.raises(ValueError, match=r"expected \(F,\) and \(F, F\)"):
        load_statistics(tmp_path / "a.npz", Extractor("inception", "", "0", small))


def rewritten(path, **changed) -> None:
    """Statistics with some of their arrays made into others by functions, or left out by None."""
    with np.load(path) as file:
        arrays = dict(file)
    arrays |= {name: change(arrays[name].copy()) for name, change in changed.items() if change}
    np.savez(path, **{name: array for name, array in arrays.items() if changed.get(name, True)})


def nudged(matrix, by=1e-5):
    matrix[0, 1] *= 1 + by
    return matrix


def with_diagonal(matrix, value):
    matrix[0, 0] = value
    return matrix


def too_correlated(matrix):
    """A correlation of 2 between the first two features."""
    matrix[0, 1] = matrix[1, 0] = 2 * np.sqrt(matrix[0, 0] * matrix[1, 1])
    return matrix


def of_pairs(matrix):
    """Zero variances and a covariance of 1: what no sum over a diagonal shows."""
    return np.fliplr(np.eye(len(matrix)))


def single(array):
    return array.astype(np.float32)


@pytest.mark.parametrize(
    "changed",
    [
        {"sigma": single, "mu": single},
        {"sigma": nudged},
        {"sigma": lambda m: nudged(single(m))},
        {"sigma": lambda m: m.astype(">f8")},
    ],
)
@pytest.mark.parametrize("count", [50, 5])  # of 6 features: full rank, and singular
def test_statistics_that_another_program_rounded_score_as_they_did(tmp_path, changed, count):
    path = tmp_path / "ref.npz"
    save_statistics(statistics(pictures(count, seed=1), EXTRACTOR), path)
    before = scores(reference=path, metrics=["fid"])["fid"].value
    rewritten(path, **changed)
    assert scores(reference=path, metrics=["fid"])["fid"].value == pytest.approx(before, rel=2e-3)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"sigma": lambda m: nudged(m, 1e3)}, "'sigma' is not symmetric"),
        ({"sigma": lambda m: with_diagonal(m, -1e7)}, "'sigma' has the negative variance -1e"),
        ({"sigma": lambda m: m - 1.1 * m.diagonal().min() * np.eye(len(m))}, "'sigma' has the negative variance"),
        ({"sigma": too_correlated}, "'sigma' is no covariance: it has the"),
        ({"sigma": of_pairs}, "'sigma' is no covariance"),
        ({"sigma": lambda m: with_diagonal(m, np.nan)}, "'sigma' has NaN or infinite entries"),
        ({"mu": lambda m: m / 0}, "'mu' has NaN or infinite entries"),
        ({"mu": lambda m: m[:-1]}, "expected (F,) and (F, F)"),
        ({"sigma": lambda m: m[:-1]}, "expected (F,) and (F, F)"),
        ({"sigma": lambda m: m[0, 0]}, "expected (F,) and (F, F)"),
        ({"mu": lambda m: m[None]}, "expected (F,) and (F, F)"),
        ({"mu": lambda m: m[:0], "sigma": lambda m: m[:0, :0]}, "expected (F,) and (F, F)"),
        ({"sigma": lambda m: m * 1j}, "'sigma' is complex128, expected floating-point numbers"),
        ({"sigma": lambda m: m.astype(int)}, "'sigma' is int64, expected floating-point numbers"),
        ({"mu": lambda m: m.astype(object)}, "'mu' is object, expected floating-point numbers"),
        ({"mu": lambda m: m.astype(str)}, "expected floating-point numbers"),
        ({"sigma": None}, "has 'mu' but no 'sigma'"),
        ({"mu": None}, "has 'sigma' but no 'mu'"),
        ({"mu": lambda m: m[:3], "sigma": lambda m: m[:3, :3]}, "'pool_rows' is float32 (50, 6), expected numbers"),
        ({"pool_rows": lambda m: m.astype(object)}, "'pool_rows' is object (50, 6)"),
        ({"probs": lambda m: m * np.nan}, "'probs' has NaN or infinite entries"),
        ({"pool_rows": lambda m: m[:0]}, "'pool_rows' is float32 (0, 6), expected numbers"),
        ({"pool_rows": lambda m: m[:9]}, "'pool_rows' has 9 rows for 50 images"),
        ({"probs": lambda m: m[:-1]}, "'probs' has 49 rows for 50 images"),
        ({"pool_rows": lambda m: m.astype(float) * 1e300}, "'pool_rows' has NaN or infinite entries"),
        ({"adaln": lambda m: np.array(str(m).replace('"num_images": 50', '"num_images": -50'))}, "it is of -50 images"),
        ({"adaln": lambda m: np.array("no JSON")}, "is not a file of statistics"),
        ({"adaln": lambda m: np.array([1, 2])}, "is not a file of statistics"),
        ({"adaln": lambda m: np.array('{"format": 1, "extractor": {}}')}, "it has no 'name'"),
    ],
)
@pytest.mark.filterwarnings("ignore:(divide by zero|invalid value)")
def test_statistics_that_are_none_are_refused_by_the_name_of_their_file(tmp_path, changed, said):
    path = tmp_path / "ref.npz"
    save_statistics(statistics(pictures(50, seed=1), EXTRACTOR), path)
    rewritten(path, **changed)
    with pytest.raises(ValueError) as caught:
        scores(reference=path, metrics=["fid"])
    assert str(path) in str(caught.value) and said in str(caught.value) and "\n" not in str(caught.value)


def test_sides_of_unequal_width_are_named(tmp_path):
    path = tmp_path / "ref.npz"
    save_statistics(statistics(pictures(50, seed=1), EXTRACTOR), path, rows=False)
    rewritten(path, mu=lambda m: m[:3], sigma=lambda m: m[:3, :3])
    with pytest.raises(ValueError, match=r"array: 6, .*ref\.npz: 3 pooled features; expected as many"):
        scores(reference=path, metrics=["fid"])


def test_damaged_statistics_are_named(tmp_path):
    path = tmp_path / "ref.npz"
    save_statistics(statistics(pictures(50), EXTRACTOR), path)
    content = path.read_bytes()
    middle = content.index(b"NUMPY") + 200
    path.write_bytes(content[:middle] + b"damage" + content[middle + 6 :])
    with pytest.raises(ValueError, match=r"ref\.npz' is not an intact npz"):
        load_statistics(path, EXTRACTOR)
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"ref\.npz"):
        scores(reference=path)
    np.savez(path, mu=np.zeros(3), sigma=np.eye(3), adaln=np.array('{"format": 1}'))
    with pytest.raises(ValueError, match=r"ref\.npz' is not a file of statistics: it has no 'extractor'"):
        load_statistics(path, EXTRACTOR)


def test_equal_protocols_are_comparable_whatever_was_sampled():
    a = scores(choices={"seed": 0, "run": "a", "guidance": 1.5})
    b = scores(pictures(40, seed=9), choices={"seed": 1, "run": "b", "guidance": 1.5})
    assert differences(a, b) == []


def test_samples_of_unknown_making_are_said_to_be_so_in_one_line():
    a, b = scores(choices={"guidance": 1.0, "sampler": {"steps": 250}}), scores(pictures(30))
    assert differences(a, b) == ["how the samples were drawn: recorded, not recorded", "samples.num_images: 40, 30"]
    assert differences(b, a)[0] == "how the samples were drawn: not recorded, recorded"


def test_every_choice_that_shapes_a_score_is_named_when_it_differs():
    a = scores(choices={"guidance": 1.0, "sampler": {"steps": 250}})
    b = scores(pictures(30), pictures(50, seed=7), choices={"guidance": 1.5, "sampler": {"steps": 50}, "ema": 0.9999})
    found = differences(a, b)
    assert [text.split(":")[0] for text in found] == [
        "reference.sha256",
        "samples.num_images",
        "choices.guidance",
        "choices.sampler.steps",
        "choices.ema",
    ]
    assert "samples.num_images: 40, 30" in found
    assert "choices.ema: not recorded, 0.9999" in found


def test_scores_of_two_extractors_are_not_comparable():
    other = evaluate(pictures(40), pictures(50, seed=1), POOL_ONLY, replicates=20)
    assert [text.split(":")[0] for text in differences(scores(), other)] == ["extractor.name", "extractor.fingerprint"]


DRAWN = {
    "labels": "balanced",
    "weights": "ema",
    "ema_decay": 0.99,
    "dtype": "float32",
    "device": "cpu",
    "sampler": {"solver": "ddim", "steps": 20},
    "guidance": {"scale": 1.0, "channels": "3", "interval": None},
}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "drawn from averaged weights (decay 0.99), labels balanced, guidance 1, ddim in 20 steps, float32."),
        (
            {"weights": "model", "ema_decay": None, "labels": 3},
            "drawn from raw weights, labels of class 3, guidance 1,",
        ),
        (
            {"guidance": {"scale": 1.5, "channels": "all", "interval": [0.1, 0.8]}},
            "guidance 1.5 of channels all at times [0.1, 0.8], ddim",
        ),
        ({"sampler": {"steps": 3}, "guidance": 1.5}, "drawn by the very choices that are recorded."),
        (None, "if they were drawn alike: how these were is not recorded."),
    ],
)
def test_with_what_scores_may_be_compared_is_one_sentence_under_them(changes, said):
    found = scores(choices=None if changes is None else DRAWN | changes)
    line = found.blocks()[0].footnotes[-1]
    assert "as many samples of 8x8 pixels beside the same reference (" in line
    assert said in line


def test_averages_of_two_widths_are_no_rivals_and_two_devices_are_up_to_rounding():
    a, wider, on_gpu = (scores(choices=DRAWN | changes) for changes in ({}, {"ema_decay": 0.9999}, {"device": "cuda"}))
    assert differences(a, wider) == ["choices.ema_decay: 0.99, 0.9999"]
    assert differences(a, on_gpu) == []
    assert rounding_differences(a, on_gpu) == ["device: cpu, cuda"]


def test_a_check_says_how_far_scores_move_with_the_batch_and_in_bfloat16():
    weight = torch.randn(192, 6, generator=torch.Generator().manual_seed(0))

    def projected(images: torch.Tensor) -> Features:
        return Features((images.float().flatten(1) / 255 @ weight).float())

    def normalised(images: torch.Tensor) -> Features:
        pool = projected(images).pool
        return Features(pool / pool.std(dim=0))

    sides = parse_source(pictures(40)), parse_source(pictures(50, seed=1))
    for network, is_alone in ((projected, True), (normalised, False)):
        extractor = Extractor("f", "f", "0" * 64, network)
        found = evaluate(*sides, extractor, ["fid", "mind"], replicates=0, batch_size=20)
        moved = moves(found, *sides, extractor, 20, "cpu")
        assert list(moved) == ["batches of 10", "bfloat16"]
        assert (abs(moved["batches of 10"]["fid"]) < 1e-6 * found["fid"].value) is is_alone
        assert abs(moved["bfloat16"]["fid"]) > 1e-6 * found["fid"].value


def test_a_public_reference_is_named_and_sizes_of_both_sides_are_compared():
    ours = scores()
    sha = next(iter(KNOWN_REFERENCES))
    public = {**ours.provenance, "reference": {**ours.provenance["reference"], "sha256": sha, "shape": [3, 256, 256]}}
    theirs = replace(ours, provenance=public)
    assert differences(ours, theirs) == [
        f"reference.sha256: {ours.provenance['reference']['sha256'][:12]}..., ADM's VIRTUAL_imagenet256_labeled.npz",
        "reference.size: 8x8, 256x256",
    ]
    assert "beside the same reference (ADM's VIRTUAL_imagenet256_labeled.npz)" in comparable_words(theirs)


# FDr


def plain_distance(a: np.ndarray, b: np.ndarray) -> float:
    """The Frechet distance of two arrays of images in the small features, by a matrix square root in float64."""
    rows = [small(torch.from_numpy(side).permute(0, 3, 1, 2)).pool.double().numpy() for side in (a, b)]
    (mean_a, mean_b), (cov_a, cov_b) = [x.mean(axis=0) for x in rows], [np.cov(x, rowvar=False) for x in rows]
    root = scipy.linalg.sqrtm(cov_a @ cov_b).real
    return float(np.square(mean_a - mean_b).sum() + np.trace(cov_a + cov_b - 2 * root))


def test_fdr_is_the_distance_of_the_samples_over_that_of_the_validation_set():
    samples, reference, validation = pictures(40) // 2, pictures(60, 1), pictures(40, 2)
    found = scores(samples, reference, validation=validation, metrics=["fid"])
    expected = plain_distance(samples, reference) / plain_distance(validation, reference)
    assert found["fdr"].value == pytest.approx(expected, rel=1e-9)
    assert found["fdr"].low < expected < found["fdr"].high
    assert found["fdr"].value == pytest.approx(found["fid"].value / plain_distance(validation, reference), rel=1e-9)
    assert scores(validation, reference, validation=validation)["fdr"].value == pytest.approx(1)
    assert "fdr" not in scores(samples, reference).scores


def test_fdr_of_other_validation_images_is_not_comparable_and_of_another_number_says_so():
    a, b = (scores(validation=pictures(40, seed)) for seed in (2, 3))
    assert [line.split(":")[0] for line in differences(a, b)] == ["validation.sha256"]
    assert not [note for note in a.notes if "validation" in note]
    assert "40 samples beside 30 validation images" in scores(validation=pictures(30, 2)).notes[-1]
    assert differences(a, scores()) == differences(scores(), a) == []  # what both have, the validation set moves not


def test_what_a_side_shares_with_the_reference_or_differs_in_is_said():
    mixed = np.concatenate([pictures(30, 2), pictures(50, seed=1)[:10]])
    assert scores(mixed).notes == ("10 of the samples are images of the reference, pixel for pixel",)
    beside = scores(validation=mixed)
    assert beside.notes == ("10 of the validation images are images of the reference, pixel for pixel",)
    assert scores(validation=pictures(40)).notes == ("samples and validation set are the very same images",)
    some = np.concatenate([pictures(40)[:7], pictures(33, 2)])
    assert scores(validation=some).notes == ("7 of the samples are images of the validation set, pixel for pixel",)
    grey, large = pictures(50, 3)[..., :1], np.repeat(pictures(50, 3), 2, axis=1)
    of_six = Extractor("six", "six", "d" * 64, lambda images: small(images.float().expand(-1, 3, -1, -1)))
    found = evaluate(pictures(50), grey, of_six, ["fid"], validation=large, replicates=0)
    assert found.notes == (
        "samples in colour beside reference images grey: that is part of every score",
        "validation images of 16x8 pixels beside reference images of 8x8: their difference in size is part of every"
        " score; compare only scores of the same two sizes",
        "validation images in colour beside reference images grey: that is part of every score",
    )


@pytest.mark.parametrize(
    ("validation", "said"),
    [
        (None, "fdr needs a validation set, other images of what the reference is of; got none (--validation)"),
        (pictures(50, seed=1), "all images of the validation set are of the reference"),
        (pictures(50, seed=1)[10:40], "all images of the validation set are of the reference"),
        (pictures(1), "got 1 image, expected at least 2"),
        (statistics(pictures(40, 2), POOL_ONLY), "different extractors"),
    ],
)
def test_a_validation_set_that_says_nothing_is_refused(validation, said):
    with pytest.raises(ValueError) as caught:
        scores(validation=validation, metrics=["fdr"])
    assert said in str(caught.value)


@pytest.mark.parametrize("value", [0.0, 3.3, 1e4])
def test_a_validation_set_that_features_do_not_tell_from_the_reference_is_refused(value):
    constant = Extractor("constant", "", "c", lambda images: Features(torch.full((len(images), 3), value)))
    with pytest.raises(ValueError, match=r"validation set is at the distance .* which is rounding; FDr divides by it"):
        evaluate(pictures(40), pictures(50, 1), constant, ["fdr"], validation=pictures(30, 2), batch_size=7)


def test_a_check_keeps_the_scores_where_the_network_cannot_compute_in_bfloat16():
    def refuses(images: torch.Tensor) -> Features:
        pool = torch.nn.functional.linear(images.float().flatten(1)[:, :4], torch.eye(4))
        if pool.dtype != torch.float32:
            raise RuntimeError("not implemented\nfor 'BFloat16'")
        return Features(pool)

    sides, extractor = (
        (parse_source(pictures(40)), parse_source(pictures(50, seed=1))),
        Extractor("f", "f", "0" * 64, refuses),
    )
    found = evaluate(*sides, extractor, ["fid"], replicates=0, batch_size=20)
    moved = moves(found, *sides, extractor, 20, "cpu")
    [why] = [words for words in moved if words.startswith("bfloat16")]
    assert why == "bfloat16: not computed (RuntimeError: not implemented for 'BFloat16')" and moved[why] == {
        "fid": None
    }
    assert "not computed" in str(replace(found, moves=moved).blocks()[-1]) and abs(moved["batches of 10"]["fid"]) < 1e-3


def test_what_separates_a_score_from_published_ones_is_named():
    published = {
        "samples": {"num_images": 50_000},
        "reference": {"num_images": 0},
        "extractor": {"name": "inception"},
        "choices": {"sampler": {"solver": "ddpm", "steps": 250}, "weights": "ema"},
    }
    assert unlike_published(Scores({}, published, ())) == []
    assert unlike_published(scores(choices={"sampler": {"solver": "ddim", "steps": 50}, "weights": "ema"})) == [
        "features: small, inception",
        "samples: 40, 50000",
        "reference images (0: ADM's precomputed statistics): 50, 0",
        "solver: ddim, ddpm",
        "solver steps: 50, 250",
    ]


# Processes


@pytest.mark.parametrize("world", [2, 3])
def test_processes_share_the_features_and_all_get_the_scores_of_one(monkeypatch, world):
    alone = scores(batch_size=7)
    seen: list[tuple[int, int]] = []

    def counting(images: torch.Tensor) -> Features:
        seen.append((rank(), len(images)))
        return small(images)

    def score() -> Scores:
        extractor = Extractor("small", "small features", "f" * 64, counting)
        return evaluate(pictures(40), pictures(50, seed=1), extractor, replicates=20, batch_size=7)

    together = in_processes(monkeypatch, world, score)
    assert all(encode(found) == encode(alone) for found in together)
    assert sum(count for _, count in seen) == 90 + NOISE  # no image is looked at twice
    assert {who for who, _ in seen} == set(range(world))
