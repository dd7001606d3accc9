"""Features of a classifier trained on the data itself."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from adaln.metrics import LabelledImages, classifier, classifier_extractor, evaluate, load_extractor


@pytest.fixture(scope="module")
def digits() -> LabelledImages:
    found = load_digits()
    return LabelledImages(np.round(found.images * 255 / 16).astype(np.uint8)[:, None], found.target.astype(np.int64))


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def extractor(digits, cache):
    return classifier_extractor(digits, cache)


@pytest.fixture
def quick(monkeypatch):
    """Three steps of training: enough where accuracy is not the point."""
    monkeypatch.setattr(classifier, "FEWEST_STEPS", 3)
    monkeypatch.setattr(classifier, "MOST_STEPS", 3)


def small(channels: int = 3, height: int = 8, width: int = 8, count: int = 30) -> LabelledImages:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, channels, height, width), dtype=np.uint8)
    return LabelledImages(images, np.arange(count, dtype=np.int64) % 3)


@pytest.mark.slow
def test_the_classifier_of_digits_is_right_on_more_than_97_percent_of_held_out_images(extractor):
    assert extractor.details["held_out_accuracy"] > 0.97


@pytest.mark.slow
def test_features_are_64_wide_and_probabilities_sum_to_one(extractor, digits):
    features = extractor(torch.from_numpy(digits.images[:9]))
    assert features.pool.shape == (9, 64)
    assert features.spatial is None
    torch.testing.assert_close(features.probs.sum(dim=1), torch.ones(9))
    assert (features.probs.argmax(dim=1).numpy() == digits.labels[:9]).mean() > 0.8


@pytest.mark.slow
def test_a_second_call_reads_the_cache_and_gives_the_same_features(extractor, digits, cache, monkeypatch):
    monkeypatch.setattr(classifier, "train", None)
    again = classifier_extractor(digits, cache)
    assert again.fingerprint == extractor.fingerprint
    assert again.details == extractor.details


@pytest.mark.slow
def test_the_classifier_that_statistics_recorded_is_found_again_without_its_data(extractor, digits, cache, tmp_path):
    recorded = extractor.describe()
    again = load_extractor("dataset-classifier", cache=cache, recorded=recorded)
    assert again.describe() == recorded
    x = torch.from_numpy(digits.images[:9])
    assert torch.equal(again(x).pool, extractor(x).pool)
    with pytest.raises(ValueError, match="is not in the cache here; make the statistics anew"):
        load_extractor("dataset-classifier", cache=tmp_path, recorded=recorded)


@pytest.mark.slow
def test_the_label_says_that_scores_are_not_inceptions(extractor, digits):
    found = evaluate(digits.images[:200], digits.images, extractor, replicates=20)
    assert set(found.scores) == {"fid", "is", "precision", "recall"}
    for score in found.scores.values():
        assert score.label == "dataset-classifier features, not comparable with Inception FID"
        assert score.low <= score.value <= score.high
    assert 5 < found["is"].value <= 10


@pytest.mark.slow
def test_worse_images_get_worse_scores(extractor, digits):
    rng = np.random.default_rng(0)
    fids = []
    for std in (0, 20, 60, 150):
        noisy = np.clip(digits.images[::2] + rng.normal(0, std, digits.images[::2].shape), 0, 255).astype(np.uint8)
        fids.append(evaluate(noisy, digits.images, extractor, ["fid"], replicates=0)["fid"].value)
    assert fids == sorted(fids)
    assert fids[-1] > 20 * fids[0]


def test_training_is_a_function_of_the_data_alone(quick, tmp_path):
    torch.manual_seed(1)
    first, _ = classifier.train(small())
    torch.manual_seed(2)
    second, _ = classifier.train(small())
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_training_leaves_the_global_generator_alone(quick):
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    classifier.train(small())
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 9, 20), (3, 64, 48), (4, 32, 32)])
def test_any_channels_and_sides_from_8_up_work(quick, tmp_path, shape):
    data = small(*shape)
    assert classifier_extractor(data, tmp_path)(torch.from_numpy(data.images)).pool.shape == (30, 64)


def test_other_data_gets_another_classifier(quick, tmp_path):
    data = small()
    relabelled = LabelledImages(data.images, data.labels[::-1].copy())
    fingerprints = {classifier_extractor(one, tmp_path).fingerprint for one in (data, relabelled)}
    assert len(fingerprints) == len(list(tmp_path.iterdir())) == 2


def test_images_of_another_shape_are_refused(extractor):
    with pytest.raises(ValueError, match=r"got images \(C, H, W\) \(3, 8, 8\), expected \(1, 8, 8\)"):
        extractor(torch.zeros(2, 3, 8, 8, dtype=torch.uint8))


def test_unlabelled_data_is_told_to_use_inception():
    images = small().images
    with pytest.raises(ValueError, match=r"needs labels of at least 2 classes .* use features 'inception'"):
        LabelledImages(images, np.zeros(len(images), np.int64))


def test_a_classifier_that_is_no_longer_that_of_its_statistics_is_named(quick, tmp_path):
    recorded = classifier_extractor(small(), tmp_path).describe() | {"fingerprint": "0" * 64}
    with pytest.raises(ValueError, match=r"classifier-\w+\.safetensors: not the classifier that these statistics"):
        load_extractor("dataset-classifier", cache=tmp_path, recorded=recorded)


def test_a_corrupt_cache_is_named_and_not_used(quick, tmp_path):
    data = small()
    classifier_extractor(data, tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"not a cached classifier .* delete it"):
        classifier_extractor(data, tmp_path)


def test_shifting_moves_every_image_by_at_most_one_pixel():
    x = torch.arange(5 * 9, dtype=torch.float32).reshape(5, 1, 3, 3)
    found = classifier._shifted(x, torch.Generator().manual_seed(0))
    padded = torch.nn.functional.pad(x, (1, 1, 1, 1), mode="replicate")
    for image, around in zip(found, padded, strict=True):
        views = [around[:, i : i + 3, j : j + 3] for i in range(3) for j in range(3)]
        assert any(torch.equal(image, view) for view in views)
