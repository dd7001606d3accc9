"""The structure of ADM's Inception, tested with seeded weights; the public ones cannot be part of a test."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from adaln.metrics import inception
from adaln.metrics.inception import Inception, inception_extractor, load_inception
from adaln.metrics.preprocessing import resize_legacy
from adaln.progress import showing
from adaln.rng import generator
from helpers.inception import documented_shapes, seeded_weights

PORT_BYTES = 95_628_359
"""Size of the public weight file."""


@pytest.fixture(scope="module")
def network() -> Inception:
    return load_inception(seeded_weights())


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randint(256, (2, 3, 40, 56), dtype=torch.uint8, generator=generator("inception images"))


def test_every_parameter_has_its_documented_name_and_shape():
    with torch.device("meta"):
        state = Inception().state_dict()
    found = {name: tuple(t.shape) for name, t in state.items() if not name.endswith("num_batches_tracked")}
    assert found == documented_shapes()


def test_the_parameters_fill_the_public_weight_file():
    num_bytes = 4 * sum(int(np.prod(shape)) for shape in documented_shapes().values())
    assert 0 < PORT_BYTES - num_bytes < 100_000  # names, counters and the archive's bookkeeping


def test_building_the_network_draws_no_random_numbers():
    before = torch.random.get_rng_state()
    load_inception(seeded_weights())
    assert torch.equal(before, torch.random.get_rng_state())


def test_features_have_adms_widths(network, images):
    with torch.inference_mode():
        features = network(images)
    assert features.pool.shape == (2, 2048)
    assert features.spatial.shape == (2, 2023)
    assert features.probs.shape == (2, 1008)
    assert features.pool.std() > 0.01


def test_folded_norms_give_the_features_of_norms_apart(network, images):
    apart = Inception().eval()
    apart.load_state_dict(seeded_weights(), strict=False)
    with torch.inference_mode():
        folded, plain = network(images), apart(images)
    for part in ("pool", "spatial", "probs"):
        expected = getattr(plain, part)
        assert (getattr(folded, part) - expected).abs().max() < 2e-5 * expected.abs().max()


def test_features_do_not_depend_on_the_batch(network, images):
    with torch.inference_mode():
        together, alone = network(images), [network(images[i : i + 1]) for i in range(2)]
    for part in ("pool", "spatial", "probs"):
        joined = torch.cat([getattr(one, part) for one in alone])
        torch.testing.assert_close(getattr(together, part), joined, rtol=1e-5, atol=1e-6)


def test_spatial_features_are_the_first_seven_channels_of_the_1x1_branch_of_mixed_6d(network, images):
    seen: dict[str, Tensor] = {}
    branch = network.get_submodule("Mixed_6d.branch1x1")
    hook = branch.register_forward_hook(lambda _, __, output: seen.update(branch=output))
    with torch.inference_mode():
        features = network(images)
    hook.remove()
    expected = seen["branch"][:, :7]
    assert expected.shape[1:] == (7, 17, 17)
    assert (expected >= 0).all()
    in_order = [expected[0, c, h, w] for h in range(17) for w in range(17) for c in range(7)]
    torch.testing.assert_close(features.spatial[0], torch.stack(in_order), rtol=0, atol=0)


def test_the_bias_of_the_classifier_is_never_used(network, images):
    weights = seeded_weights()
    assert weights["fc.bias"].abs().max() > 0.1
    with torch.inference_mode():
        features = network(images)
    torch.testing.assert_close(features.probs, (features.pool @ weights["fc.weight"].T).softmax(dim=1))


def test_grey_images_are_their_rgb_copies(network, images):
    grey = images[:1, :1]
    with torch.inference_mode():
        torch.testing.assert_close(network(grey).pool, network(grey.repeat(1, 3, 1, 1)).pool, rtol=0, atol=0)


def test_average_pools_leave_the_padding_out_and_the_last_block_takes_the_maximum():
    ones = torch.ones(1, 1, 4, 4)
    assert torch.equal(inception._pool(ones, "average"), ones)
    pools = [block.pool for name, block in inception.BLOCKS.items() if name[:7] == "Mixed_7"]
    assert pools == ["reduce", "average", "max"]


def legacy_by_definition(image: np.ndarray, side: int) -> np.ndarray:
    """TensorFlow 1's kernel, one output pixel at a time, in float32."""
    out = np.zeros((side, side), np.float32)
    scales = [np.float32(size) / np.float32(side) for size in image.shape]
    for i in range(side):
        for j in range(side):
            y, x = np.float32(i) * scales[0], np.float32(j) * scales[1]
            top, left = int(y), int(x)
            bottom, right = min(top + 1, image.shape[0] - 1), min(left + 1, image.shape[1] - 1)
            dy, dx = y - np.float32(top), x - np.float32(left)
            upper = image[top, left] + (image[top, right] - image[top, left]) * dx
            lower = image[bottom, left] + (image[bottom, right] - image[bottom, left]) * dx
            out[i, j] = upper + (lower - upper) * dy
    return out


@pytest.mark.parametrize("shape", [(8, 8), (13, 7), (64, 40), (19, 19)])
def test_resizing_is_tensorflows_first_bilinear_kernel(shape):
    image = np.random.default_rng(0).integers(0, 256, shape).astype(np.float32)
    found = resize_legacy(torch.from_numpy(image)[None, None], 19)[0, 0]
    np.testing.assert_allclose(found, legacy_by_definition(image, 19), rtol=0, atol=2e-5)


def test_resizing_neither_aligns_corners_nor_shifts_by_half_a_pixel():
    ramp = torch.arange(4.0).repeat(4, 1)[None, None]
    torch.testing.assert_close(resize_legacy(ramp, 8)[0, 0, 0], torch.tensor([0, 0.5, 1, 1.5, 2, 2.5, 3, 3]))


def test_weights_of_another_network_are_refused_by_the_first_tensor_that_differs():
    weights = seeded_weights()
    for change, message in (
        ({"fc.weight": torch.zeros(1000, 2048)}, r"got \(1000, 2048\) for 'fc.weight', expected \(1008, 2048\)"),
        ({"AuxLogits.fc.bias": torch.zeros(3)}, r"got \(3,\) for 'AuxLogits.fc.bias', expected nothing"),
    ):
        with pytest.raises(ValueError, match=message):
            load_inception(weights | change)
    del weights["Conv2d_1a_3x3.bn.bias"]
    with pytest.raises(ValueError, match=r"got nothing for 'Conv2d_1a_3x3.bn.bias', expected \(32,\)"):
        load_inception(weights)


@pytest.fixture
def published(monkeypatch, tmp_path):
    """Seeded weights in the port's format, which take the published file's place."""
    path = tmp_path / "made" / inception.FILE
    path.parent.mkdir()
    counters = {"Conv2d_1a_3x3.bn.num_batches_tracked": torch.tensor(0)}
    torch.save(seeded_weights() | counters, path)
    monkeypatch.setattr(inception, "SHA256", inception.file_sha256(path))
    return path


def test_given_weights_are_checked_loaded_and_fingerprinted(published, tmp_path, network, images):
    extractor = inception_extractor(published, tmp_path / "cache")
    assert extractor.fingerprint == inception.SHA256
    with torch.inference_mode():
        torch.testing.assert_close(extractor(images).pool, network(images).pool, rtol=1e-5, atol=1e-5)
    assert not (tmp_path / "cache").exists()


def test_weights_are_fetched_once_into_the_cache(published, tmp_path, monkeypatch):
    monkeypatch.setattr(inception, "URL", published.as_uri())
    seen: list[tuple[str, int, int, str]] = []
    with showing(lambda *call: seen.append(call)):
        inception_extractor(None, tmp_path / "cache")
    assert [file.name for file in (tmp_path / "cache").iterdir()] == [inception.FILE]
    assert seen[-1][1] == published.stat().st_size
    monkeypatch.setattr(inception, "URL", "file:///nowhere")
    inception_extractor(None, tmp_path / "cache")


def test_without_network_one_line_says_which_file_to_put_where(tmp_path, monkeypatch):
    monkeypatch.setattr(inception, "URL", (tmp_path / "gone").as_uri())
    with pytest.raises(ValueError, match=rf"cannot fetch .*; put {inception.FILE} from .* at .*cache") as caught:
        inception_extractor(None, tmp_path / "cache")
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_damaged_download_leaves_nothing_behind(tmp_path, monkeypatch):
    (tmp_path / "wrong").write_bytes(b"an error page")
    monkeypatch.setattr(inception, "URL", (tmp_path / "wrong").as_uri())
    with pytest.raises(ValueError, match="is not the published file"):
        inception_extractor(None, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_corrupt_or_missing_file_is_named_with_the_hash_that_was_expected(tmp_path):
    (tmp_path / "w.pth").write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"w\.pth: damaged or another file, got SHA-256 .* expected 6726825d0af5"):
        inception_extractor(tmp_path / "w.pth", tmp_path)
    with pytest.raises(ValueError, match=r"gone\.pth: no such file"):
        inception_extractor(tmp_path / "gone.pth", tmp_path)


class Harmful:
    """Unpickling it touches a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_a_pickle_that_would_run_code_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "harmful.pth"
    torch.save({"fc.bias": Harmful(tmp_path / "ran")}, path)
    monkeypatch.setattr(inception, "SHA256", inception.file_sha256(path))
    with pytest.raises(ValueError, match=r"harmful\.pth' .*code is never run from a file"):
        inception.read_weights(path, tmp_path)
    assert not (tmp_path / "ran").exists()
    torch.load(path, weights_only=False)  # the file is as harmful as it should be
    assert (tmp_path / "ran").exists()


@pytest.mark.network
def test_the_public_weights_can_be_fetched_and_loaded(tmp_path, images):
    assert inception_extractor(None, tmp_path)(images).pool.shape == (2, 2048)
