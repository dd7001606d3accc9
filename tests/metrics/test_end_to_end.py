"""Images through a stand-in extractor to scores, against ADM's evaluator on the same images and extractor."""

from pathlib import Path

import numpy as np
import pytest
import torch

from adaln.metrics import Extractor, Features, evaluate, open_images, statistics
from adaln.metrics.kid_and_is import inception_score
from helpers.golden_files import golden_folders

FOLDERS = [folder for folder in golden_folders("metrics") if (folder / "e2e.npz").exists()]


class Golden:
    """One folder's `e2e` record with the linear extractor that it describes."""

    def __init__(self, folder: Path, results, softmax_weight, sha256) -> None:
        self.recorded = results(folder)["e2e"]
        self.arrays = np.load(folder / "e2e.npz")
        recipe, weight = self.recorded["extractor"], softmax_weight(folder)
        p, q = (self.matrix(recipe, letter, sha256) for letter in "PQ")

        def network(images: torch.Tensor) -> Features:
            flat = images.permute(0, 2, 3, 1).flatten(1).float() / 255 - 0.5
            pool = torch.relu(flat @ p)
            spatial = (flat @ q).reshape(-1, 17, 17, 16)[..., :7].flatten(1)
            return Features(pool, spatial, torch.softmax(pool @ weight, dim=1))

        self.extractor = Extractor("stand-in", "stand-in features", "0" * 64, network)

    @staticmethod
    def matrix(recipe, letter, sha256) -> torch.Tensor:
        rng = np.random.Generator(np.random.PCG64(recipe[f"{letter}_seed"]))
        matrix = (rng.standard_normal(recipe[f"{letter}_shape"]) * recipe[f"{letter}_scale"]).astype(np.float32)
        assert sha256(matrix) == recipe[f"{letter}_sha256"]
        return torch.from_numpy(matrix)


@pytest.fixture(params=FOLDERS, ids=lambda folder: folder.parent.name)
def golden(request, results, softmax_weight, sha256) -> Golden:
    return Golden(request.param, results, softmax_weight, sha256)


def test_all_scores_of_a_golden_folder_are_adms(golden):
    images = golden.arrays["images_sample"], golden.arrays["images_ref"]
    names = ["fid", "sfid", "is", "precision", "recall", "precision-half", "recall-half"]
    found, recorded = evaluate(*images, golden.extractor, names, replicates=0), golden.recorded
    for name, key in (("fid", "FID"), ("sfid", "sFID")):
        assert found[name].value == pytest.approx(recorded[key]["exact_nuclear_norm_float64"], rel=1e-6)
        assert found[name].value == pytest.approx(recorded[key]["adm"], abs={"fid": 2e-3, "sfid": 5e-3}[name])
    assert found["is"].value == pytest.approx(recorded["IS"]["default_split5000"], rel=2e-6)
    probs = statistics(images[0], golden.extractor).probs
    for key in recorded["IS"]:
        if key.startswith("split"):
            split_size = int(key.removeprefix("split"))
            assert inception_score(probs, split_size) == pytest.approx(recorded["IS"][key], rel=2e-6)
    pr = recorded["PR"]
    assert [found["precision"].value, found["recall"].value] == pr["float64_precision_recall"]
    assert found["precision-half"].value == pytest.approx(pr["adm_precision"], abs=0.002)
    assert found["recall-half"].value == pytest.approx(pr["adm_recall"], abs=0.002)
    assert len(found.notes) == 2  # both sides have fewer images than features


@pytest.mark.slow
@pytest.mark.parametrize("side", ["ref", "sample"])
def test_statistics_of_streamed_images_are_adms(golden, side):
    found = statistics(golden.arrays[f"images_{side}"], golden.extractor, batch_size=17)
    for part, gaussian in (("pool", found.pool), ("spatial", found.spatial)):
        recorded = {
            key: golden.arrays[f"{part}_{side}/{key}"]
            for key in ("mu", "sigma_diag", "sigma_row0", "sigma_row1", "sigma_row1000")
        }
        np.testing.assert_allclose(gaussian.mean, recorded["mu"], rtol=0, atol=5e-6)
        np.testing.assert_allclose(gaussian.covariance.diagonal(), recorded["sigma_diag"], rtol=1e-5, atol=1e-8)
        for row in (0, 1, 1000):
            np.testing.assert_allclose(gaussian.covariance[row], recorded[f"sigma_row{row}"], rtol=0, atol=1e-6)
        rows = getattr(found, f"{part}_rows")
        np.testing.assert_allclose(rows[:3], golden.arrays[f"{part}_{side}_first3"], rtol=1e-5, atol=2e-6)


@pytest.mark.slow
def test_layout_and_batch_size_change_no_hash_and_no_feature(golden, tmp_path):
    images = golden.arrays["images_sample"]
    np.savez(tmp_path / "samples.npz", arr_0=images, arr_1=np.zeros(len(images)))
    sources = [images, torch.from_numpy(images).permute(0, 3, 1, 2), tmp_path / "samples.npz"]
    found = [
        statistics(source, golden.extractor, batch_size=size)
        for source, size in zip(sources, (64, 1000, 7), strict=True)
    ]
    assert len({one.origin.sha256 for one in found}) == 1
    for one in found[1:]:
        torch.testing.assert_close(one.pool.covariance, found[0].pool.covariance, rtol=1e-6, atol=1e-8)
        torch.testing.assert_close(one.spatial_rows, found[0].spatial_rows, rtol=1e-5, atol=1e-6)


def test_only_one_batch_of_images_is_asked_for_at_a_time(golden):
    seen: list[int] = []
    network = golden.extractor.network

    def watching(images: torch.Tensor) -> Features:
        seen.append(len(images))
        return network(images)

    extractor = Extractor("stand-in", "", "0", watching)
    statistics(golden.arrays["images_sample"], extractor, batch_size=50)
    assert seen == [50, 50, open_images(golden.arrays["images_sample"]).num_images - 100]
