import json
import math
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from adaln.data import DataConfig, encode, load, open_autoencoder, renderer
from adaln.data.autoencoder import factors
from adaln.data.dataset import to_uint8
from adaln.progress import noting
from helpers.autoencoders import save_autoencoder
from helpers.pictures import two_classes, write_folder

CPU = torch.device("cpu")
Z = torch.randn(20, 4, 4, 4, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def vae(tmp_path_factory):
    return save_autoencoder(tmp_path_factory.mktemp("vae") / "tiny-vae")


def test_what_diffusers_would_print_is_in_the_one_line_or_a_note(tmp_path, vae, capsys):
    shutil.copytree(vae, tmp_path / "more")
    shutil.copytree(vae, tmp_path / "less")
    config = json.loads((vae / "config.json").read_text())
    (tmp_path / "more" / "config.json").write_text(json.dumps(config | {"of_tomorrow": 1}))
    weights = load_file(vae / "diffusion_pytorch_model.safetensors")
    weights.pop("decoder.conv_in.weight")
    save_file(weights, tmp_path / "less" / "diffusion_pytorch_model.safetensors")
    notes = []
    with noting(notes.append):
        open_autoencoder(str(tmp_path / "more"))
    assert len(notes) == 1 and "more' has of_tomorrow, which AutoencoderKL does not know" in notes[0]
    with pytest.raises(ValueError, match=r"missing_keys 'decoder\.conv_in\.weight'"):
        open_autoencoder(str(tmp_path / "less"))
    with pytest.raises(ValueError, match="the autoencoder is ''; expected a folder"):
        open_autoencoder("")
    assert not any(capsys.readouterr())


def test_pixels_are_bytes_at_once():
    assert load(DataConfig()).describe_latents() is None
    render, space = renderer(None, 1, None, CPU)
    assert space is None
    assert torch.equal(render(Z[:, :1]), to_uint8(Z[:, :1]))


def test_latents_are_decoded_by_what_made_them(tmp_path, vae):
    source = write_folder(tmp_path / "set", two_classes(height=8, width=8))
    autoencoder = open_autoencoder(str(vae))
    encode(DataConfig(str(source)), tmp_path / "out", autoencoder)
    render, space = renderer(load(DataConfig(str(tmp_path / "out"))).describe_latents(), 4, None, CPU)
    assert space == autoencoder.space
    with torch.no_grad():
        decoded = autoencoder.network.decode(Z / 0.5).sample
    assert (render(Z).int() - to_uint8(decoded).int()).abs().max() <= 1  # in parts, so up to rounding


def test_latents_of_an_unrecorded_autoencoder_need_one_to_be_named(vae):
    for noted in (None, {"autoencoder": None, "space": None, "is_normalised": False}):
        with pytest.raises(ValueError, match=r"latents of 4 channels, of an autoencoder that is not recorded"):
            renderer(noted, 4, None, CPU)
        render, _ = renderer(noted, 4, str(vae), CPU)
        assert render(Z).shape == (20, 3, 8, 8)
    with pytest.raises(ValueError, match=r"samples have 16 channels; .* decodes 4"):
        renderer(None, 16, str(vae), CPU)


def test_normalised_latents_of_lightning_dit_are_not_decoded_wrongly(tmp_path, vae):
    labels = torch.zeros(20, dtype=torch.int64)
    save_file(
        {"latents": Z, "latents_flip": Z.flip(-1), "labels": labels}, tmp_path / "latents_rank00_shard000.safetensors"
    )
    torch.save({"mean": torch.zeros(4), "std": torch.full((4,), 2.0)}, tmp_path / "latents_stats.pt")
    noted = load(DataConfig(str(tmp_path))).describe_latents()
    with pytest.raises(ValueError, match="normalised by channel statistics"):
        renderer(noted, 4, str(vae), CPU)


def test_latents_of_fast_dit_are_noted_as_unrecorded(tmp_path, monkeypatch):
    monkeypatch.setenv("ADALN_CACHE", str(tmp_path / "cache"))
    for name, array in (("a_features", Z[:1].numpy()), ("a_labels", np.array([0]))):
        (tmp_path / "set" / name).mkdir(parents=True)
        np.save(tmp_path / "set" / name / "0.npy", array)
    noted = load(DataConfig(str(tmp_path / "set"))).describe_latents()
    assert noted == {"autoencoder": None, "space": None, "is_normalised": False}


def test_the_autoencoder_of_a_pipeline_is_taken_from_its_folder(tmp_path, vae):
    shutil.copytree(vae, tmp_path / "pipe/vae")
    (tmp_path / "pipe/model_index.json").write_text("{}")
    opened = open_autoencoder(str(tmp_path / "pipe"))
    assert opened.space.autoencoder_sha256 == open_autoencoder(str(vae)).space.autoencoder_sha256
    assert open_autoencoder(opened.origin).space.autoencoder_sha256 == opened.space.autoencoder_sha256


@pytest.mark.parametrize("name", ["AutoencoderTiny", "VQModel", "AsymmetricAutoencoderKL", "AutoencoderKLWan"])
def test_an_autoencoder_of_another_class_is_refused_by_its_name(tmp_path, vae, name):
    folder = shutil.copytree(vae, tmp_path / "other")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"_class_name": name}))
    with pytest.raises(
        ValueError, match=rf"no autoencoder at .*other' \(it is of the class {name}, expected AutoencoderKL\)"
    ):
        open_autoencoder(str(folder))


def change_weights(folder, change):
    file = folder / "diffusion_pytorch_model.safetensors"
    save_file({name: change(weight) for name, weight in load_file(file).items()}, file)


def drop_weights(folder, keep):
    file = folder / "diffusion_pytorch_model.safetensors"
    save_file({name: tensor for name, tensor in load_file(file).items() if keep(name)}, file)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: drop_weights(folder, lambda name: "decoder" not in name), r"missing_keys 'decoder\."),
        (lambda folder: drop_weights(folder, lambda name: name != "quant_conv.bias"), "missing_keys 'quant_conv.bias'"),
        (
            lambda folder: (folder / "diffusion_pytorch_model.safetensors").rename(folder / "model.bin"),
            r"\.bin files alone",
        ),
        (lambda folder: (folder / "config.json").unlink(), "no autoencoder"),
        (lambda folder: change_weights(folder, lambda weight: weight * math.nan), r"weight '.*' is not finite"),
        (
            lambda folder: change_weights(folder, lambda weight: weight.to(torch.int8)),
            r"'.*' in .* is of type I8, quantised",
        ),
    ],
)
def test_an_autoencoder_that_is_not_all_there_is_refused(tmp_path, vae, damage, said):
    folder = shutil.copytree(vae, tmp_path / "part")
    damage(folder)
    with pytest.raises(ValueError, match=said) as error:
        open_autoencoder(str(folder))
    assert "\n" not in str(error.value)


def test_a_file_is_no_autoencoder(vae):
    with pytest.raises(ValueError, match=r"\(it is a file\); expected a folder with config\.json"):
        open_autoencoder(str(vae / "diffusion_pytorch_model.safetensors"))


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"scaling_factor": 0}, "scaling_factor 0; expected a finite number"),
        ({"scaling_factor": None}, "scaling_factor None"),
        ({"scaling_factor": math.nan}, "scaling_factor nan"),
        ({"scaling_factor": 1.0, "shift_factor": math.inf}, "shift_factor inf"),
        ({"scaling_factor": 1.0, "shift_factor": "a"}, "shift_factor 'a'"),
        ({"scaling_factor": 1.0, "latents_mean": [0.1]}, "latents_mean or latents_std by channel"),
    ],
)
def test_factors_that_are_none_are_refused(config, said):
    with pytest.raises(ValueError, match=said):
        factors("vae", config)
    assert factors("vae", {"scaling_factor": 2, "shift_factor": None}) == (2.0, 0.0)
