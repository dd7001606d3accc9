import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from adaln.data import Batches, DataConfig, load
from adaln.data.batches import augmented

LATENTS = torch.randn(9, 4, 2, 2, generator=torch.Generator().manual_seed(0))
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


def test_the_labels_of_fast_dit_are_gathered_once(tmp_path):
    folder = fast_dit(tmp_path)
    load(DataConfig(str(folder)))
    (folder / "imagenet256_labels/3.npy").write_bytes(b"")  # a file's content does not change its folder's time
    assert load(DataConfig(str(folder))).labels.tolist() == LABELS.tolist()


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
            r"features/0\.npy: missing, cut",
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
    with pytest.raises(ValueError, match="fixed each flip once"):
        load(DataConfig(folder, flip=True))
    with pytest.raises(ValueError, match="leave size out"):
        load(DataConfig(folder, size=256))
    with pytest.raises(ValueError, match="holds latents, not images"):
        load(DataConfig(folder)).images[0]
