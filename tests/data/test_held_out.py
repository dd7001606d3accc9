"""Which pictures are never learned from: a matter of their content alone."""

import hashlib
import json
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaln.cli.commands import main
from adaln.data import Batches, DataConfig, encode, load, open_autoencoder
from adaln.data.dataset import Dataset, spec_of
from adaln.data.held_out import content_hashes, split_of
from helpers.autoencoders import save_autoencoder
from helpers.pictures import png, two_classes, write_folder, write_tar, write_zip

NAMES = ("cat", "dog")


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("ADALN_CACHE", str(tmp_path_factory.mktemp("cache")))


def held_out(dataset):
    """The pictures held out, as bytes, in order."""
    return [dataset.images[row].tobytes() for row in dataset.split.held_out]


def a_set(images, labels=None, conditional=True):
    labels = np.arange(len(images)) % 2 if labels is None else labels
    spec = spec_of(images.shape[1:], NAMES, conditional)
    return Dataset("a-set", images, labels, NAMES, spec, str(hash(images.tobytes())))


def noise(count, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, 3, 4, 4), dtype=np.uint8)


def test_one_set_is_split_alike_whatever_it_lies_in_and_in_whatever_order(tmp_path):
    files = two_classes(20)
    renamed = {f"{'dog' if name[0] == 'c' else 'ape'}/{100 - int(name[4:-4])}.png": of for name, of in files.items()}
    flat = {name.replace("/", "-"): of for name, of in files.items()}
    paths = [
        write_folder(tmp_path / "folder", files),
        write_zip(tmp_path / "set.zip", renamed),
        write_tar(tmp_path / "set.tar", flat),
    ]
    splits = [load(DataConfig(str(path), held_out=0.3)) for path in paths]
    assert 2 < len(held_out(splits[0])) < 30
    assert held_out(splits[0]) == held_out(splits[1]) == held_out(splits[2])


@given(st.floats(0.1, 0.9), st.floats(0.1, 0.9), st.integers(0, 9))
def test_a_larger_share_holds_a_smaller_ones_pictures_first(tmp_path_factory, one, other, seed):
    dataset, cache = a_set(noise(200, seed)), tmp_path_factory.getbasetemp()
    small, large = (split_of(dataset, share, cache) for share in sorted((one, other)))
    np.testing.assert_array_equal(large.held_out[: len(small.held_out)], small.held_out)
    for split in (small, large):
        np.testing.assert_array_equal(np.sort(np.concatenate([split.learned, split.held_out])), np.arange(200))


def test_about_the_share_is_held_out():
    digits = load(DataConfig(held_out=0.1))
    assert abs(len(digits.split.held_out) - 179.7) < 4 * (1797 * 0.1 * 0.9) ** 0.5


def test_copies_of_a_picture_are_on_one_side_whatever_their_classes(tmp_path):
    images = noise(100)
    split = split_of(a_set(np.concatenate([images, images[::-1]])), 0.4, tmp_path)
    there = np.isin(np.arange(200), split.held_out)
    np.testing.assert_array_equal(there[:100], there[:99:-1])


def test_nothing_that_is_held_out_is_ever_in_a_batch():
    digits = load(DataConfig(held_out=0.2))
    batches = Batches(digits, 64, seed=0)
    seen = np.concatenate([batches.indices(step) for step in range(60)])
    assert set(seen[: len(digits.split.learned)].tolist()) == set(digits.split.learned.tolist())
    assert not set(seen.tolist()) & set(digits.split.held_out.tolist())


@pytest.mark.parametrize("conditional", [True, False])
def test_shares_that_leave_a_side_of_a_class_empty_are_refused_with_those_that_fit(tmp_path, conditional):
    dataset = a_set(noise(8), conditional=conditional)
    for share, side in ((1e-6, "held out"), (1 - 1e-6, "learned from")):
        with pytest.raises(ValueError, match=f"no picture.* of 'a-set' is {side}; expected") as refusal:
            split_of(dataset, share, tmp_path)
        assert ("of class" in str(refusal.value)) == conditional
        low, high = map(float, re.search(r"above ([\d.]+) and up to ([\d.]+)$", str(refusal.value)).groups())
        split = split_of(dataset, (low + high) / 2, tmp_path)
        for rows in (split.learned, split.held_out):
            assert len(set(dataset.labels[rows].tolist())) == 2 or not conditional
        for outside in (low * 0.999, min(high * 1.001, 0.9999)):
            with pytest.raises(ValueError, match="no picture"):
                split_of(dataset, outside, tmp_path)


def test_a_class_of_one_picture_cannot_be_split(tmp_path):
    dataset = a_set(noise(9), np.array([0] * 8 + [1]))
    with pytest.raises(ValueError, match=r"expected a set with more pictures of each class$"):
        split_of(dataset, 0.5, tmp_path)


@pytest.mark.parametrize("share", [-0.1, 1.0, 1.5, float("nan")])
def test_a_share_is_a_share(share):
    with pytest.raises(ValueError, match=r"^data.held_out is .*; expected a share of the pictures, 0 <= share < 1$"):
        DataConfig(held_out=share)


@pytest.mark.slow
def test_latents_are_split_by_the_pictures_they_were_made_of(tmp_path):
    files = two_classes(12, height=8, width=8)
    copies = files | {f"cat/copy-{name[4:]}": of for name, of in files.items() if name.startswith("cat")}
    folder = write_folder(tmp_path / "pictures", copies)
    autoencoder = open_autoencoder(str(save_autoencoder(tmp_path / "vae")), "cpu")
    encode(DataConfig(str(folder), 8), tmp_path / "latents", autoencoder, batch_size=5)
    split, digests = (latents := load(DataConfig(str(tmp_path / "latents"), held_out=0.5))).split, latents.digests
    here = {digests[row].tobytes() for row in split.held_out}
    assert here and not here & {digests[row].tobytes() for row in split.learned}


def test_the_first_line_and_inspect_say_how_many_are_held_out(tmp_path, capsys):
    digits = load(DataConfig(held_out=0.1))
    counts = np.bincount(digits.labels[digits.split.held_out])
    said = f"{counts.sum():,} held out, at least {counts.min():,} of each class"
    assert digits.summary().endswith(said)
    main(["data", "inspect", "digits", "--held-out", "0.1", "--json"])
    assert json.loads(capsys.readouterr().out)["notes"]["holds"].endswith(said)
    plain = write_folder(
        tmp_path / "flat", {f"{i}.png": png(image.transpose(1, 2, 0)) for i, image in enumerate(noise(20))}
    )
    assert re.search(
        r"unconditional; each 4 x 4, 3 channels; \d+ held out$", load(DataConfig(str(plain), held_out=0.5)).summary()
    )


def test_hashes_are_read_once_and_kept(tmp_path, monkeypatch):
    dataset = a_set(noise(300))
    before = content_hashes(dataset, tmp_path)
    digests = [hashlib.sha256(image.tobytes()).digest() for image in dataset.images]
    assert before.tolist() == [int.from_bytes(digest[:8], "little") for digest in digests]
    monkeypatch.setattr("adaln.data.held_out.hashed", lambda dataset: pytest.fail("hashed again"))
    np.testing.assert_array_equal(content_hashes(dataset, tmp_path), before)
