import dataclasses
import json
import os

import numpy as np
import pytest
import torch

from adaln.data import Batches, DataConfig, encode, inspect, load, open_autoencoder, round_trip
from adaln.data.autoencoder import weights_sha256
from adaln.data.batches import augmented
from adaln.files import claimed
from adaln.progress import showing
from helpers.autoencoders import save_autoencoder
from helpers.pictures import pixels, png, two_classes, write_folder


@pytest.fixture(scope="module")
def vae_folder(tmp_path_factory):
    return save_autoencoder(tmp_path_factory.mktemp("vae") / "tiny-vae")


@pytest.fixture(scope="module")
def vae(vae_folder):
    return open_autoencoder(str(vae_folder))


def pictures(tmp_path, num_each=5, **shape):
    return DataConfig(path=str(write_folder(tmp_path / "set", two_classes(num_each, height=8, width=8, **shape))))


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")}


def test_pixel_shards_hold_what_the_folder_holds(tmp_path):
    config = pictures(tmp_path)
    index = encode(config, tmp_path / "out", shard_rows=3)
    assert [shard.rows for shard in index.shards] == [3, 3, 3, 1]
    folder = load(config, cache=tmp_path / "cache")
    shards = load(DataConfig(path=str(tmp_path / "out")))
    assert shards.fingerprint == folder.fingerprint
    assert shards.spec == folder.spec
    assert shards.class_names == folder.class_names
    np.testing.assert_array_equal(np.asarray(shards.images), folder.images)
    for step in range(4):
        for one, other in zip(Batches(shards, 4, 0).at(step), Batches(folder, 4, 0).at(step), strict=True):
            assert torch.equal(one, other)


def test_the_rows_of_a_shard_begin_at_a_page_of_memory(tmp_path):
    encode(pictures(tmp_path), tmp_path / "out")
    content = (tmp_path / "out/shard-000000.safetensors").read_bytes()
    num_bytes = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + num_bytes])
    assert (8 + num_bytes + header["images"]["data_offsets"][0]) % 65536 == 0


def test_digits_can_be_encoded_too(tmp_path):
    encode(DataConfig(), tmp_path / "out")
    assert load(DataConfig(path=str(tmp_path / "out"))).fingerprint == load(DataConfig()).fingerprint


def test_class_folders_whose_names_are_no_utf_8_are_encoded_and_keep_their_bytes(tmp_path):
    name = os.fsdecode(b"caf\xe9")
    folder = write_folder(tmp_path / "set", {f"{name}/0.png": png(pixels(0)), "dog/0.png": png(pixels(1))})
    encode(DataConfig(str(folder)), tmp_path / "out")
    assert load(DataConfig(str(tmp_path / "out"))).class_names == (name, "dog")


def test_latents_are_drawn_from_the_posterior_of_the_autoencoder(tmp_path, vae):
    config = pictures(tmp_path)
    encode(config, tmp_path / "out", vae, shard_rows=4)
    latents = load(DataConfig(path=str(tmp_path / "out")))
    assert (latents.spec.channels, latents.spec.height, latents.spec.num_classes) == (4, 4, 2)
    image = torch.from_numpy(pixels(102, 8, 8).transpose(2, 0, 1).copy())[None] / 127.5 - 1
    mean, std = vae.moments(image)
    draws = torch.cat(
        [augmented(latents, np.full(100, 7), [torch.Generator().manual_seed(i)] * 100) for i in range(100)]
    )
    spread = 0.5 * std[0] / 100
    assert ((draws.mean(0) - 0.5 * mean[0]).abs() < 5 * spread + 1e-3).all()
    torch.testing.assert_close(draws.std(0), 0.5 * std[0], rtol=0.05, atol=1e-3)


def test_mirror_images_have_latents_of_their_own(tmp_path, vae):
    encode(pictures(tmp_path), tmp_path / "out", vae)
    latents = load(DataConfig(path=str(tmp_path / "out"), flip=True))
    mean, _ = vae.moments(torch.from_numpy(pixels(2, 8, 8).transpose(2, 0, 1).copy())[None].flip(-1) / 127.5 - 1)
    np.testing.assert_allclose(latents.moments[2 * 2 + 1][0], mean[0], rtol=1e-3, atol=1e-3)
    assert not np.allclose(latents.moments[5][0], latents.moments[4][0][..., ::-1], atol=1e-3)
    rng = torch.Generator().manual_seed(0)
    draws = augmented(latents, np.full(400, 2), [rng] * 400)
    is_mirrored = (draws - 0.5 * mean).flatten(1).norm(dim=1) < (draws - 0.5 * latents.moments[4][0]).flatten(1).norm(
        dim=1
    )
    assert 140 < is_mirrored.sum() < 260


def test_channel_statistics_are_those_of_the_draws(tmp_path, vae):
    encode(pictures(tmp_path), tmp_path / "out", vae, shard_rows=4)
    latents = load(DataConfig(path=str(tmp_path / "out"), flip=True))
    draws = torch.cat([Batches(latents, 100, 0).at(step)[0] for step in range(60)])
    np.testing.assert_allclose(draws.mean((0, 2, 3)), latents.index.channel_mean, atol=0.01)
    np.testing.assert_allclose(draws.std((0, 2, 3)), latents.index.channel_std, rtol=0.02)


def test_latent_batches_are_a_function_of_the_step(tmp_path, vae):
    encode(pictures(tmp_path), tmp_path / "out", vae, shard_rows=4)
    config = DataConfig(path=str(tmp_path / "out"), flip=True)
    assert torch.equal(Batches(load(config), 4, 0).at(3)[0], Batches(load(config), 4, 0).at(3)[0])


def test_images_of_a_latent_set_are_refused_with_a_reason(tmp_path, vae):
    encode(pictures(tmp_path), tmp_path / "out", vae)
    latents = load(DataConfig(path=str(tmp_path / "out")))
    for ask in (lambda: latents.images[0], lambda: latents.images[:2], lambda: np.asarray(latents.images)):
        with pytest.raises(ValueError, match="holds latents, not images"):
            ask()


def test_two_ranks_make_the_same_set_as_one(tmp_path, vae):
    config = pictures(tmp_path)
    encode(config, tmp_path / "one", vae, shard_rows=2)
    assert encode(config, tmp_path / "two", vae, shard_rows=2, rank=1, world=2) is None
    assert encode(config, tmp_path / "two", vae, shard_rows=2, rank=0, world=2) is not None
    assert contents(tmp_path / "two") == contents(tmp_path / "one")


def test_an_encoding_that_was_cut_off_goes_on_where_it_was(tmp_path):
    config = pictures(tmp_path)
    encode(config, tmp_path / "out", shard_rows=2)
    before = contents(tmp_path / "out")
    times = {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in before}
    (tmp_path / "out/index.json").unlink()
    (tmp_path / "out/shard-000001.safetensors").unlink()
    cut = tmp_path / "out/shard-000003.safetensors"
    cut.write_bytes(cut.read_bytes()[:-5])
    (tmp_path / "out/.tmp-shard-000001.safetensors-1").write_bytes(b"left by a kill")
    encode(config, tmp_path / "out", shard_rows=2)
    assert contents(tmp_path / "out") == before
    made_again = [name for name in before if (tmp_path / "out" / name).stat().st_mtime_ns != times[name]]
    assert sorted(made_again) == ["index.json", "shard-000001.safetensors", "shard-000003.safetensors"]
    assert not list((tmp_path / "out").glob(".tmp-*"))


def test_progress_counts_single_pictures_and_begins_with_what_is_there(tmp_path, vae):
    config, seen = pictures(tmp_path), []
    encode(config, tmp_path / "out", vae, shard_rows=4, batch_size=2)
    (tmp_path / "out/shard-000001.safetensors").unlink()
    with showing(lambda *call: seen.append(call)):
        encode(config, tmp_path / "out", vae, shard_rows=4, batch_size=2)
    stage = f"encode {tmp_path / 'out'}"
    assert seen == [(stage, done, 10, "images") for done in (6, 8, 10, 10)]


def test_an_encoding_that_has_not_ended_is_not_read(tmp_path):
    encode(pictures(tmp_path), tmp_path / "out", shard_rows=2, world=2)
    with pytest.raises(ValueError, match="has not ended"):
        load(DataConfig(path=str(tmp_path / "out")))


def test_a_second_encoder_in_the_same_folder_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("adaln.files.PATIENCE_SECONDS", 0)
    config = pictures(tmp_path)
    (tmp_path / "out").mkdir()
    with (
        claimed(tmp_path / "out" / ".rank-0.lock", ""),
        pytest.raises(ValueError, match="another encoder is writing here"),
    ):
        encode(config, tmp_path / "out")
    assert encode(config, tmp_path / "out").num_rows == 10


def test_other_settings_or_other_files_are_refused(tmp_path, vae):
    config = pictures(tmp_path)
    encode(config, tmp_path / "out", shard_rows=2)
    with pytest.raises(ValueError, match=r"begun with other settings.*space"):
        encode(config, tmp_path / "out", vae, shard_rows=2)
    for where, said in (
        ("set", "lies in the set"),
        ("set/inside", "lies in the set"),
        ("mine", r"holds other files \(a"),
    ):
        (tmp_path / "mine").mkdir(exist_ok=True)
        (tmp_path / "mine" / "a.txt").touch()
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(ValueError, match=said):
            encode(config, tmp_path / where)
        assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("counts", [{"batch_size": 0}, {"shard_rows": 0}, {"shard_rows": -1}])
def test_counts_below_one_are_refused(tmp_path, counts):
    config = pictures(tmp_path)
    with pytest.raises(ValueError, match=f"{next(iter(counts))} is .*; expected a whole number"):
        encode(config, tmp_path / "out", **counts)
    with pytest.raises(ValueError, match="size is 0; expected a whole number"):
        encode(DataConfig(config.path, size=0), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_bad_image_stops_the_encoding_or_is_left_out(tmp_path):
    config = pictures(tmp_path)
    (tmp_path / "set/cat/1.png").write_bytes(b"broken")
    with pytest.raises(ValueError, match=r"cat/1\.png"):
        encode(config, tmp_path / "out", shard_rows=2)
    index = encode(DataConfig(config.path, on_bad_image="skip"), tmp_path / "skipped", shard_rows=2)
    assert index.num_rows == 9
    assert index.skipped[0].startswith("cat/1.png")
    found = load(DataConfig(config.path, on_bad_image="skip"), cache=tmp_path / "cache")
    assert load(DataConfig(str(tmp_path / "skipped"))).fingerprint == found.fingerprint


def test_a_shard_all_of_whose_images_are_bad_is_no_hole(tmp_path, vae):
    config = pictures(tmp_path)
    for name in ("cat/0.png", "cat/1.png"):
        (tmp_path / "set" / name).write_bytes(b"")
    encode(DataConfig(config.path, on_bad_image="skip"), tmp_path / "out", vae, shard_rows=2)
    assert len(load(DataConfig(str(tmp_path / "out")))) == 8


def test_the_round_trip_reports_the_error_of_decoding_what_was_encoded(tmp_path, vae):
    config = pictures(tmp_path)
    encode(config, tmp_path / "out", vae, shard_rows=4)
    found = round_trip(config, tmp_path / "out", vae, num_images=3)
    assert found.originals.shape == found.decoded.shape == (3, 3, 8, 8)
    np.testing.assert_array_equal(found.originals[0], pixels(0, 8, 8).transpose(2, 0, 1))
    error = found.originals.astype(float) - found.decoded
    assert found.rmse == pytest.approx(np.sqrt((error**2).mean()))
    assert found.psnr_db == pytest.approx(20 * np.log10(255 / found.rmse))


def test_the_round_trip_refuses_another_autoencoder_and_other_images(tmp_path, vae):
    config = pictures(tmp_path)
    encode(config, tmp_path / "out", vae)
    other = dataclasses.replace(vae, space=dataclasses.replace(vae.space, scaling_factor=0.25))
    with pytest.raises(ValueError, match=r"have scaling_factor 0\.5; 'tiny-vae' has 0\.25"):
        round_trip(config, tmp_path / "out", other)
    (tmp_path / "set/cat/0.png").write_bytes(png(pixels(77, 8, 8)))
    with pytest.raises(ValueError, match=r"cat/0\.png is not the image that was encoded"):
        round_trip(config, tmp_path / "out", vae)


def test_an_autoencoder_that_is_not_there_is_one_clear_line(tmp_path):
    with pytest.raises(ValueError, match="no autoencoder at") as error:
        open_autoencoder(str(tmp_path))
    assert "\n" not in str(error.value)


def test_the_hash_of_an_autoencoder_is_that_of_its_weights(vae, vae_folder):
    again = open_autoencoder(str(vae_folder))
    assert again.space == vae.space
    with torch.no_grad():
        next(iter(again.network.parameters())).add_(1e-6)
    assert weights_sha256(again.network.state_dict()) != vae.space.autoencoder_sha256


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda shard: shard.write_bytes(shard.read_bytes()[:-1]),
            "shard-000001.safetensors' is not a complete safetensors file",
        ),
        (lambda shard: shard.write_bytes(b""), "shard-000001.safetensors' is not a complete safetensors file"),
        (lambda shard: shard.unlink(), "shard-000001.safetensors: missing"),
        (lambda shard: shard.write_bytes((shard.parent.parent / "other" / shard.name).read_bytes()), "another set"),
        (
            lambda shard: (shard.parent / "index.json").write_text("{"),
            "index.json' is not an index of adaln-shards-1: Expecting",
        ),
        (
            lambda shard: (shard.parent / "index.json").write_text("{}"),
            "index.json' is not an index of adaln-shards-1: it is of another",
        ),
    ],
)
def test_a_damaged_set_names_the_file_at_fault(tmp_path, damage, message):
    config = pictures(tmp_path)
    encode(config, tmp_path / "out", shard_rows=2)
    encode(DataConfig(config.path, size=4), tmp_path / "other", shard_rows=2)
    damage(tmp_path / "out/shard-000001.safetensors")
    with pytest.raises(ValueError, match=message) as error:
        load(DataConfig(str(tmp_path / "out")))
    assert "\n" not in str(error.value)


def test_a_run_that_asks_for_another_size_or_for_missing_mirror_images_is_refused(tmp_path, vae):
    encode(pictures(tmp_path), tmp_path / "out", vae, flips=False)
    with pytest.raises(ValueError, match="encoded at 8x8, but size is 16"):
        load(DataConfig(str(tmp_path / "out"), size=16))
    with pytest.raises(ValueError, match="without mirror images"):
        load(DataConfig(str(tmp_path / "out"), flip=True))


def test_what_lies_beside_the_shards_of_a_set_is_said(tmp_path):
    encode(pictures(tmp_path), tmp_path / "out", shard_rows=2)
    assert load(DataConfig(str(tmp_path / "out"))).passed_over == ()
    for name in ("shard-000009.safetensors", "notes.txt"):
        (tmp_path / "out" / name).write_bytes(b"")
    said = ("1 .txt (notes.txt)", "1 .safetensors (shard-000009.safetensors)")
    assert sorted(load(DataConfig(str(tmp_path / "out"))).passed_over) == sorted(said)
    assert sorted(inspect(str(tmp_path / "out")).passed_over) == sorted(said)


def test_a_size_that_the_autoencoder_cannot_halve_is_refused(tmp_path, vae):
    with pytest.raises(ValueError, match=r"set': images are 7x7; the autoencoder takes multiples of 2"):
        encode(DataConfig(pictures(tmp_path).path, size=7), tmp_path / "out", vae)
