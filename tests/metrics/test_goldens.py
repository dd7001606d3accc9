"""Every score of ADM's evaluator on the golden activations: what it printed, and what exact arithmetic gives."""

import numpy as np
import pytest
import torch
from torch import Tensor

from adaln.metrics.frechet import FeatureMoments, Gaussian, frechet_distance
from adaln.metrics.kid_and_is import inception_score
from adaln.metrics.precision_recall import exact_blocks, precision_recall, published_blocks, radii
from helpers.golden_files import golden_folders

SIDES = ("ref", "sample")


def probabilities(rows: Tensor, weight: Tensor) -> Tensor:
    """Float32 softmax in ADM's batches of 512."""
    return torch.cat([torch.softmax(part @ weight, dim=1) for part in rows.split(512)])


def gaussian(pair, part: str, side: str) -> Gaussian:
    return FeatureMoments.of(pair.rows[part, side]).gaussian()


@pytest.mark.parametrize("side", SIDES)
def test_regenerated_activations_are_the_recorded_ones_bit_for_bit(pair, part, side, sha256):
    rows = pair.rows[part, side]
    assert sha256(rows.numpy()) == pair.recorded[f"{part}_{side}"]["sha256_float32"]
    np.testing.assert_array_equal(rows[:2].numpy(), pair.arrays[f"{part}_{side}/first2_rows"])


@pytest.mark.parametrize("side", SIDES)
def test_mean_and_covariance_are_the_recorded_ones(pair, part, side):
    found, prefix = gaussian(pair, part, side), f"{part}_{side}"
    # the reference's mean is a float32 sum; its covariance is float64
    np.testing.assert_allclose(found.mean, pair.arrays[f"{prefix}/mu"], rtol=0, atol=2e-6)
    np.testing.assert_allclose(found.covariance.diagonal(), pair.arrays[f"{prefix}/sigma_diag"], rtol=1e-10, atol=1e-14)
    for row in (0, 1, 1000):
        np.testing.assert_allclose(found.covariance[row], pair.arrays[f"{prefix}/sigma_row{row}"], rtol=0, atol=1e-12)
    assert float(found.covariance.trace()) == pytest.approx(pair.recorded[prefix]["sigma_trace"], rel=1e-11)


def test_frechet_distances_equal_exact_arithmetic_and_adm_up_to_its_own_error(pair, part):
    found = frechet_distance(*(gaussian(pair, part, side) for side in SIDES))
    metric, tolerance = {"pool": ("FID", 2e-3), "spatial": ("sFID", 5e-3)}[part]
    recorded = pair.recorded[metric]
    assert found.value == pytest.approx(recorded["exact_nuclear_norm_float64"], rel=1e-9)
    assert found.value == pytest.approx(recorded["adm"], abs=tolerance)
    assert found.mean_term == pytest.approx(recorded["mean_term"], rel=1e-6)


def test_inception_scores_are_adms(pair):
    recorded = pair.recorded["IS"]
    ours, reference = (
        probabilities(rows, pair.softmax_weight) for rows in (pair.rows["pool", "sample"], pair.rows["pool", "ref"])
    )
    np.testing.assert_allclose(ours[:4], pair.arrays["softmax_first4"], rtol=2e-5, atol=1e-12)
    np.testing.assert_allclose(ours.double().mean(dim=0), pair.arrays["softmax_mean_float64"], rtol=1e-5)
    assert inception_score(ours) == pytest.approx(recorded["default_split5000"], rel=2e-6)
    for key in recorded:
        if key.startswith("split"):
            assert inception_score(ours, int(key.removeprefix("split"))) == pytest.approx(recorded[key], rel=2e-6)
    assert inception_score(reference) == pytest.approx(recorded["ref_default_split5000"], rel=2e-6)


def test_exact_precision_and_recall_are_those_of_float64(pair):
    found = precision_recall(pair.rows["pool", "ref"], pair.rows["pool", "sample"])
    assert [found.precision, found.recall] == pair.recorded["PR"]["float64_precision_recall"]
    for side in SIDES:
        ours = radii(pair.rows["pool", side], 3)
        np.testing.assert_allclose(ours, pair.arrays[f"radii_{side}_float64"], rtol=1e-5)


def test_published_precision_and_recall_are_adms_point_by_point(pair):
    found = precision_recall(pair.rows["pool", "ref"], pair.rows["pool", "sample"], blocks=published_blocks)
    for ours, theirs in (
        (found.sample_inside, pair.arrays["sample_in_ref_manifold"]),
        (found.reference_inside, pair.arrays["ref_in_sample_manifold"]),
    ):
        assert (ours.numpy() != theirs).mean() <= 0.002  # none on the committed pairs
    recorded = pair.recorded["PR"]
    assert found.precision == pytest.approx(recorded["adm_precision"], abs=0.002)
    assert found.recall == pytest.approx(recorded["adm_recall"], abs=0.002)


def test_published_precision_and_recall_are_adms_at_every_recorded_k(pair):
    for k, (precision, recall) in pair.recorded["PR"]["by_k"].items():
        found = precision_recall(pair.rows["pool", "ref"], pair.rows["pool", "sample"], int(k), published_blocks)
        assert found.precision == pytest.approx(precision, abs=2e-3)
        assert found.recall == pytest.approx(recall, abs=2e-3)


def test_half_precision_distances_are_tensorflows(pair):
    corner = pair.rows["pool", "ref"][:8], pair.rows["pool", "sample"][:8]
    ((_, block),), ((_, exact),) = published_blocks(*corner), exact_blocks(*corner)
    np.testing.assert_allclose(block, pair.arrays["tf16_dist_8x8"], rtol=0, atol=1.0)
    assert (block.numpy() == pair.arrays["tf16_dist_8x8"]).mean() > 0.98  # TensorFlow splits a rare sum otherwise
    assert (block != exact).any()


LARGE = [folder for folder in golden_folders("metrics") if (folder / "results.json").read_text().count('"n5000"')]


@pytest.mark.slow
@pytest.mark.parametrize("folder", LARGE)
def test_scores_of_5000_against_5000_are_adms(folder, results, activations, softmax_weight):
    golden = results(folder)["n5000"]
    recorded = golden["results"]
    reference, samples = (activations(golden["recipe"]["pool"], side) for side in SIDES)
    fid = frechet_distance(*(FeatureMoments.of(rows).gaussian() for rows in (reference, samples))).value
    assert fid == pytest.approx(recorded["FID_exact_symmetric_eigh"], rel=1e-6)
    assert fid == pytest.approx(recorded["FID"], abs=1e-4)
    exact, published = (precision_recall(reference, samples, blocks=b) for b in (exact_blocks, published_blocks))
    assert [exact.precision, exact.recall] == pytest.approx(recorded["fp32_path_precision_recall"], abs=1e-9)
    assert published.precision == pytest.approx(recorded["precision"], abs=2e-3)
    assert published.recall == pytest.approx(recorded["recall"], abs=2e-3)
    score = inception_score(probabilities(samples, softmax_weight(folder)))
    assert score == pytest.approx(recorded["IS_default_split5000"], rel=2e-6)
