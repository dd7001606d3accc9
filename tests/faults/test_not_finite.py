"""Numbers that are not finite, wherever they come from: one line with the first tensor, and nothing good is lost."""

import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from helpers.autoencoders import save_autoencoder
from helpers.pictures import two_classes, write_folder
from helpers.smallest_commands import NETWORK, SAMPLE, STUDY, TRAIN, contents, newest

pytestmark = pytest.mark.slow
LAST = f"checkpoints/{12:09d}"


def poison(file, start, value):
    """Change one number of the first tensor whose name starts so; returns the name."""
    tensors = load_file(file)
    name = next(name for name in sorted(tensors) if name.startswith(start))
    tensors[name] = np.array(tensors[name])
    tensors[name].flat[0] = value
    save_file(tensors, file, {"format": "pt"})
    return name


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize(
    ("file", "start"),
    [
        ("model", "blocks.1.mlp.fc1.weight"),
        ("ema", "blocks.1.mlp.fc1.weight"),
        ("training", "exp_avg/blocks.1.mlp.fc1.weight"),
        ("training", "exp_avg_sq/blocks.1.mlp.fc1.weight"),
    ],
)
def test_a_checkpoint_that_is_not_finite_is_not_gone_on_from(adaln, clean, run, file, start, value):
    poison(run / LAST / f"{file}.safetensors", start, value)
    before = contents(run)
    words = [*TRAIN[:-1], "--steps", 14, "--out"]
    said = adaln(*words, run).refused()
    assert "not finite" in said and "blocks.1.mlp.fc1.weight" in said
    assert {name: before[name] for name in before if "checkpoints" in name} == {
        name: content for name, content in contents(run).items() if "checkpoints" in name
    }
    shutil.rmtree(run / LAST)
    adaln(*words, run).done()
    adaln(*words, clean.parent / "longer").done()
    assert contents(run) == contents(clean.parent / "longer")


def test_no_image_is_drawn_from_averages_that_are_not_finite(adaln, run, tmp_path):
    name = poison(run / LAST / "ema.safetensors", "blocks.1.mlp.fc1.weight", np.nan)
    said = adaln("sample", run, *SAMPLE, "--out", tmp_path / "x.npz").refused()
    assert said == f"{run / LAST / 'ema.safetensors'}: {name!r} is not finite"
    assert not (tmp_path / "x.npz").exists()


@pytest.mark.parametrize(
    ("value", "what"),
    [
        (np.nan, "its weight 'encoder.conv_in.weight' is not finite"),
        (1e30, "cat/0.png: its moments by 'vae' are not finite in half precision"),
    ],
)
def test_an_autoencoder_that_is_not_finite_encodes_nothing(adaln, tmp_path, value, what):
    write_folder(tmp_path / "set", two_classes(4, height=8, width=8))
    file = save_autoencoder(tmp_path / "vae") / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    tensors["encoder.conv_in.weight"] = np.full_like(tensors["encoder.conv_in.weight"], value)
    save_file(tensors, file, {"format": "pt"})
    words = [
        "encode",
        tmp_path / "set",
        tmp_path / "out",
        "--shard-rows",
        2,
        "--autoencoder",
        tmp_path / "vae",
        "--device",
        "cpu",
    ]
    assert what in adaln(*words).refused()
    assert not list((tmp_path / "out").glob("*.safetensors"))


def test_a_study_names_the_run_that_is_not_finite_and_keeps_the_others(adaln, clean_study, root):
    shutil.copytree(clean_study, root, dirs_exist_ok=True)
    run = min(root.glob("digits-adaln-mix-s0-*"))
    shutil.rmtree(run / "checkpoints" / f"{8:09d}")
    poison(run / "checkpoints" / f"{4:09d}" / "model.safetensors", "blocks.0.attn", np.inf)
    for file in run.glob("scores/000000008*"):
        file.unlink()
    before = contents(root)
    said = adaln(*STUDY, root).refused()
    assert said.startswith(f"1 of 4 runs failed, the others are kept: {run.name}: ") and "is not finite" in said
    assert contents(root) == before
    shutil.rmtree(run / "checkpoints" / f"{4:09d}")
    adaln(*STUDY, root).done()
    assert contents(root) == contents(clean_study)


def test_a_poisoned_latent_is_named_and_the_set_without_it_is_another(adaln, tmp_path):
    latents = np.random.default_rng(0).normal(size=(40, 1, 4, 4, 4)).astype(np.float32)
    for name in ("set_features", "set_labels"):
        (tmp_path / "set" / name).mkdir(parents=True)
    for i, latent in enumerate(latents):
        np.save(tmp_path / f"set/set_features/{i}.npy", latent)
        np.save(tmp_path / f"set/set_labels/{i}.npy", np.array([i % 2]))
    words = ["train", "digits", *NETWORK, *("--data.path", tmp_path / "set", "--steps", 5, "--checkpoint-every", 1)]
    words += ["--log-every", 1, "--device", "cpu", "--keep-checkpoints", 0, "--out"]
    adaln(*words, tmp_path / "clean").done()
    latents[33, 0, 0, 0, 0] = np.nan
    np.save(tmp_path / "set/set_features/33.npy", latents[33])
    said = adaln(*words, tmp_path / "run").refused()
    step = newest(tmp_path / "run")
    source = repr(str(tmp_path / "set"))
    assert said == f"step {step}: the images or latents of the batch, from {source}, are not finite"
    latents[33, 0, 0, 0, 0] = np.random.default_rng(0).normal(size=(40, 1, 4, 4, 4)).astype(np.float32)[33, 0, 0, 0, 0]
    np.save(tmp_path / "set/set_features/33.npy", latents[33])
    assert "began with data" in adaln(*words, tmp_path / "run").refused()
    adaln(*words, tmp_path / "anew").done()
    assert contents(tmp_path / "anew") == contents(tmp_path / "clean")


@pytest.mark.parametrize("steps", [1, 4, 12])
def test_a_learning_rate_beyond_all_numbers_leaves_no_checkpoint_that_is_not_finite(adaln, tmp_path, steps):
    """The last step's update is what no later loss would tell of."""
    run = tmp_path / "run"
    said = adaln(*TRAIN[:-1], "--steps", steps, "--optim.lr", "1e39", "--out", run).refused()
    assert "not finite" in said and f"step {steps if steps == 1 else 1}" in said
    assert newest(run) == 0
