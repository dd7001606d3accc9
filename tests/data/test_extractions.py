import os
import re

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from adaln.data import Batches, DataConfig, inspect, load
from adaln.data.batches import augmented

LATENTS = torch.randn(9, 4, 2, 2, generator=torch.Generator().manual_seed(0))
SHARD = "latents_rank00_shard001.safetensors"
LABELS = torch.tensor([0, 2, 1, 0, 2, 1, 0, 2, 1])


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ADALN_CACHE", str(tmp_path / "cache"))


def fast_dit(tmp_path):
    for name in ("imagenet256_features", "imagenet256_labels"):
        (tmp_path / "set" / name).mkdir(parents=True)
    for i in range(9):
        np.save(tmp_path / "set/imagenet256_features" / f"{i}.npy", LATENTS[i : i + 1].numpy())
        np.save(tmp_path / "set/imagenet256_labels" / f"{i}.npy", LABELS[i : i + 1].numpy())
    return tmp_path / "set"


def lightning_dit(tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    for number, part in enumerate((slice(0, 5), slice(5, 9))):
        tensors = {"latents": LATENTS[part], "latents_flip": LATENTS[part] + 10, "labels": LABELS[part]}
        save_file(tensors, folder / f"latents_rank00_shard{number:03d}.safetensors")
    torch.save(
        {"mean": torch.full((1, 4, 1, 1), 2.0), "std": torch.full((1, 4, 1, 1), 4.0)}, folder / "latents_stats.pt"
    )
    return folder


def test_npy_pairs_of_fast_dit_come_as_they_are(tmp_path):
    found = load(DataConfig(str(fast_dit(tmp_path))))
    assert (found.spec.channels, found.spec.height, found.spec.num_classes) == (4, 2, 3)
    batches = Batches(found, 5, 0)
    x, y = batches.at(3)
    assert torch.equal(x, LATENTS[batches.indices(3)])
    assert torch.equal(y, LABELS[batches.indices(3)])


def test_the_labels_of_fast_dit_are_gathered_once_and_again_when_a_file_changes(tmp_path, monkeypatch):
    folder = fast_dit(tmp_path)
    load(DataConfig(str(folder)))
    with monkeypatch.context() as patch:
        patch.setattr("adaln.data.extractions.whole_number", lambda *_: pytest.fail("read again"))
        assert load(DataConfig(str(folder))).labels.tolist() == LABELS.tolist()
    changed = folder / "imagenet256_labels/3.npy"
    np.save(changed, np.array([2]))
    os.utime(changed, ns=(0, 10**9))
    assert load(DataConfig(str(folder))).labels.tolist() == [0, 2, 1, 2, 2, 1, 0, 2, 1]


@pytest.mark.parametrize("part", ["features", "labels"])
@pytest.mark.parametrize(
    "array", [np.zeros((4, 4, 2, 2)), np.zeros(4, int), np.int64(0), np.zeros((1, 4, 2, 3)), np.zeros(0)]
)
@pytest.mark.parametrize("number", [0, 5])
def test_rows_of_fast_dit_that_do_not_belong_together_are_refused_at_opening(tmp_path, part, array, number):
    folder = fast_dit(tmp_path)
    np.save(folder / f"imagenet256_{part}/{number}.npy", array)
    with pytest.raises(ValueError, match=rf"imagenet256_{part}/\d\.npy: holds .*shape \(.*; expected "):
        load(DataConfig(str(folder)))


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.array([1.5]), "1.5"),
        (np.array([-1]), "-1"),
        (np.array([True]), "True"),
        (np.array([10**9]), "no class number"),
    ],
)
def test_labels_of_fast_dit_that_are_no_class_numbers_are_named(tmp_path, array, said):
    folder = fast_dit(tmp_path)
    for number in range(9):
        np.save(folder / f"imagenet256_labels/{number}.npy", np.zeros(1, array.dtype))
    np.save(folder / "imagenet256_labels/4.npy", array)
    with pytest.raises(ValueError, match=r"labels/[04]\.npy") as error:
        load(DataConfig(str(folder)))
    assert said in str(error.value) or (array.dtype == bool and "False" in str(error.value))


@pytest.mark.parametrize("numbers", [(0, 1, 3), (1, 2, 3), (0, 1, 10)])
def test_a_gap_in_the_numbers_of_fast_dit_is_named(tmp_path, numbers):
    for part, array in (("x_features", np.zeros((1, 4, 2, 2))), ("x_labels", np.zeros(1, int))):
        (tmp_path / "set" / part).mkdir(parents=True)
        for number in numbers:
            np.save(tmp_path / "set" / part / f"{number}.npy", array)
    with pytest.raises(ValueError, match=rf"x_features/{next(n for n in range(3) if n not in numbers)}\.npy: missing"):
        load(DataConfig(str(tmp_path / "set")))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"labels": LABELS[:3]}, "a row and a label for every latent"),
        ({"latents_flip": LATENTS[:3]}, "a row and a label for every latent"),
        ({"labels": LABELS[:4].float()}, "labels hold float32"),
        ({"labels": -LABELS[:4]}, "labels hold the class -2"),
        ({"labels": None}, "has no 'labels'"),
    ],
)
def test_shards_of_lightning_dit_with_parts_that_do_not_belong_together_are_named(tmp_path, changed, said):
    folder = lightning_dit(tmp_path)
    tensors = {"latents": LATENTS[:4], "latents_flip": LATENTS[:4], "labels": LABELS[:4]} | changed
    save_file(
        {name: tensor.clone() for name, tensor in tensors.items() if tensor is not None},
        folder / "latents_rank00_shard001.safetensors",
    )
    with pytest.raises(ValueError, match=rf"shard001\.safetensors: .*{said}"):
        load(DataConfig(str(folder)))


def test_what_lies_beside_latents_is_counted_and_a_lost_shard_is_said(tmp_path):
    folder = lightning_dit(tmp_path)
    for name in ("latents_rank00_shard001.safetensors.tmp", "log.txt"):
        (folder / name).write_bytes(b"")
    assert load(DataConfig(str(folder))).passed_over == (
        "1 .txt (log.txt)",
        "1 .tmp (latents_rank00_shard001.safetensors.tmp)",
    )
    (folder / "latents_rank00_shard000.safetensors").rename(folder / "latents_rank02_shard001.safetensors")
    said = inspect(str(folder)).notes["holds"]
    assert "3 missing among numbered ones (latents_rank00_shard000.safetensors), 1 .t" in said


def test_what_lies_beside_pairs_of_fast_dit_is_counted_and_pairs_of_two_names_are_refused(tmp_path):
    folder = fast_dit(tmp_path)
    for name in ("imagenet256_features/9.npy.tmp", "imagenet256_labels/.hidden.npy", "readme.md"):
        (folder / name).write_bytes(b"")
    assert set(load(DataConfig(str(folder))).passed_over) == {
        "1 .tmp (imagenet256_features/9.npy.tmp)",
        "1 hidden (imagenet256_labels/.hidden.npy)",
        "1 .md (readme.md)",
    }
    (folder / "imagenet256_labels").rename(folder / "faces_labels")
    with pytest.raises(ValueError, match="imagenet256_features, faces_labels; expected one pair of folders NAME_feat"):
        load(DataConfig(str(folder)))
    (folder / "faces_features").mkdir()
    with pytest.raises(ValueError, match="faces_features, imagenet256_features, faces_labels; expected one pair"):
        load(DataConfig(str(folder)))


@pytest.mark.parametrize("other", [LATENTS[:4, :, :1].clone(), LATENTS[:4].half()])
def test_shards_of_lightning_dit_that_differ_from_the_first_are_named(tmp_path, other):
    folder = lightning_dit(tmp_path)
    tensors = {"latents": other, "latents_flip": other.clone(), "labels": LABELS[:4].clone()}
    save_file(tensors, folder / "latents_rank00_shard001.safetensors")
    with pytest.raises(
        ValueError, match=r"shard001\.safetensors: holds rows of float.*; expected float32 of the shape"
    ):
        load(DataConfig(str(folder)))


@pytest.mark.parametrize("array", [np.zeros((1, 4, 0, 0), np.float32), np.full((1, 4, 2, 2), "a")])
def test_latents_that_hold_nothing_or_no_numbers_are_refused(tmp_path, array):
    folder = fast_dit(tmp_path)
    for number in range(9):
        np.save(folder / f"imagenet256_features/{number}.npy", array)
    with pytest.raises(ValueError, match=r"set: holds latents of .*; expected numbers \(N, C, h, w\)"):
        load(DataConfig(str(folder)))


def test_a_label_of_lightning_dit_that_is_no_class_number_is_named_by_its_file(tmp_path):
    folder = lightning_dit(tmp_path)
    tensors = {"latents": LATENTS[5:9], "latents_flip": LATENTS[5:9], "labels": torch.tensor([0, 1, 10**9, 2])}
    save_file(
        {name: tensor.clone() for name, tensor in tensors.items()}, folder / "latents_rank00_shard001.safetensors"
    )
    with pytest.raises(ValueError, match=r"class 1000000000 of 'row 7 of .*shard001\.safetensors' is no class number"):
        load(DataConfig(str(folder)))


def test_a_latent_that_is_not_finite_is_named_by_its_file(tmp_path):
    folder = lightning_dit(tmp_path)
    bad = LATENTS[5:9].clone()
    bad[2, 0, 0, 0] = float("nan")
    tensors = {"latents": bad, "latents_flip": bad.clone(), "labels": LABELS[5:9].clone()}
    save_file(tensors, folder / "latents_rank00_shard001.safetensors")
    assert "shard001.safetensors: row 7 is not finite (1 of rows 0 to 8)" in inspect(str(folder)).problems[0]


def test_latents_of_lightning_dit_are_normalised_by_their_statistics(tmp_path):
    found = load(DataConfig(str(lightning_dit(tmp_path))))
    batches = Batches(found, 5, 0)
    x, y = batches.at(3)
    torch.testing.assert_close(x, (LATENTS[batches.indices(3)] - 2) / 4)
    assert torch.equal(y, LABELS[batches.indices(3)])


def test_half_of_the_latents_of_lightning_dit_are_of_the_mirror_image(tmp_path):
    found = load(DataConfig(str(lightning_dit(tmp_path)), flip=True))
    draws = augmented(found, np.full(400, 7), [torch.Generator().manual_seed(0)] * 400)
    is_mirrored = torch.isclose(draws, (LATENTS[7] + 8) / 4).flatten(1).all(1)
    assert torch.isclose(draws[~is_mirrored], (LATENTS[7] - 2) / 4).all()
    assert 150 < is_mirrored.sum() < 250


@pytest.mark.parametrize(
    ("make", "damage", "message"),
    [
        (
            fast_dit,
            lambda folder: (folder / "imagenet256_labels/8.npy").unlink(),
            "9 files in imagenet256_features but 8",
        ),
        (
            fast_dit,
            lambda folder: (folder / "imagenet256_features/0.npy").write_bytes(b""),
            r"features/0\.npy' is not an intact npy file",
        ),
        (lightning_dit, lambda folder: (folder / "latents_stats.pt").unlink(), r"latents_stats\.pt: missing"),
        (lightning_dit, lambda folder: torch.save({"mean": torch.ones(3)}, folder / "latents_stats.pt"), "4 channels"),
        (
            lightning_dit,
            lambda folder: (folder / "latents_rank00_shard001.safetensors").write_bytes(b"x" * 20),
            r"shard001\.safetensors' is not a complete safetensors file",
        ),
    ],
)
def test_damaged_extractions_name_the_file_at_fault(tmp_path, make, damage, message):
    folder = make(tmp_path)
    damage(folder)
    with pytest.raises(ValueError, match=message) as error:
        load(DataConfig(str(folder)))
    assert "\n" not in str(error.value)


def test_settings_that_legacy_latents_cannot_follow_are_refused(tmp_path):
    folder = str(fast_dit(tmp_path))
    size, flip = "size is 256, expected None (--data.size None)", "flip is True, expected False (--data.no-flip)"
    for config, wrong in (
        (DataConfig(folder, flip=True), flip),
        (DataConfig(folder, size=256), size),
        (DataConfig(folder, size=256, flip=True), f"{size}, {flip}"),
    ):
        with pytest.raises(ValueError, match=f"fixed as they were extracted: {re.escape(wrong)}$"):
            load(config)
    with pytest.raises(ValueError, match="holds latents, not images"):
        load(DataConfig(folder)).images[0]


@pytest.mark.parametrize("make", [fast_dit, lightning_dit])
def test_the_fingerprint_changes_with_any_latent_though_size_and_time_are_kept(tmp_path, make):
    folder = make(tmp_path)
    before = load(DataConfig(str(folder))).fingerprint
    changed = folder / {fast_dit: "imagenet256_features/8.npy", lightning_dit: SHARD}[make]
    content, status = changed.read_bytes(), changed.stat()
    for place, name in ((-1, "the last byte"), (-50, "another"), (None, "the same content")):
        other = bytearray(content)
        if place:
            other[place] ^= 1
        changed.write_bytes(other)
        os.utime(changed, ns=(status.st_atime_ns, status.st_mtime_ns))
        assert (load(DataConfig(str(folder))).fingerprint == before) == (place is None), name


def test_latents_are_hashed_once_and_are_one_set_in_whatever_shards_they_lie(tmp_path, monkeypatch):
    folder = lightning_dit(tmp_path)
    before = load(DataConfig(str(folder))).fingerprint
    with monkeypatch.context() as patch:
        patch.setattr("adaln.data.extractions.ThreadPoolExecutor", lambda *_: pytest.fail("read again"))
        assert load(DataConfig(str(folder))).fingerprint == before
    (folder / "latents_rank00_shard001.safetensors").unlink()
    tensors = {"latents": LATENTS.clone(), "latents_flip": LATENTS + 10, "labels": LABELS}
    save_file(tensors, folder / "latents_rank00_shard000.safetensors")
    assert load(DataConfig(str(folder))).fingerprint == before


def test_labels_of_fast_dit_that_were_replaced_with_size_and_time_kept_are_gathered_again(tmp_path):
    folder = fast_dit(tmp_path)
    load(DataConfig(str(folder)))
    changed = folder / "imagenet256_labels/3.npy"
    status = changed.stat()
    np.save(changed, np.array([2]))
    os.utime(changed, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert load(DataConfig(str(folder))).labels.tolist() == [0, 2, 1, 2, 2, 1, 0, 2, 1]


def test_a_copy_of_a_shard_of_lightning_dit_is_refused(tmp_path):
    folder = lightning_dit(tmp_path)
    shard = folder / "latents_rank00_shard001.safetensors"
    (folder / "latents_rank00_shard001_old.safetensors").write_bytes(shard.read_bytes())
    with pytest.raises(ValueError, match=r"shard001_old\.safetensors: is called a copy of 'latents_rank00_shard001"):
        load(DataConfig(str(folder)))
