"""Everything that is read from a disk: one small folder of each kind, and the commands that read what lies in it."""

import io
import json
import shutil
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from adaln.cli import main
from adaln.metrics import LabelledImages, classifier, save_statistics, statistics
from helpers.autoencoders import save_autoencoder
from helpers.files_of_weights import adapter, checkpoint, of_diffusers, sharded, weights
from helpers.pictures import pixels, png, write_folder, write_tar, write_zip

NETWORK = "--model.hidden-size 16 --model.depth 2 --model.num-heads 2"
TRAIN = f"{NETWORK} --batch-size 4 --steps 1 --log-every 1 --device cpu"
FEATURES = "--features helpers.files_of_all_kinds:means --metrics fid"
SAMPLE = "--num-images 2 --batch-size 2 --sampler.solver ddim --sampler.steps 1 --device cpu"


@dataclass(frozen=True)
class Kind:
    """Files that are read together."""

    make: Callable[[Path], object]
    """Fills a folder."""
    files: str
    """Which of them are changed: patterns with commas between."""
    commands: tuple[str, ...]
    """What reads them, in that folder."""

    def changeable(self, folder: Path) -> list[Path]:
        """The files to be changed, relative to the folder."""
        files = {file for pattern in self.files.split(",") for file in folder.glob(pattern) if file.is_file()}
        return sorted(file.relative_to(folder) for file in files)


def autoencoder(folder: Path) -> None:
    """Pictures, and what makes latents of them."""
    write_folder(folder / "source", pictures(1))
    save_autoencoder(folder / "vae")


def saved_to_disk(folder: Path) -> None:
    """A Hugging Face set."""
    datasets = pytest.importorskip("datasets")
    kinds = {"label": datasets.ClassLabel(names=["cat", "dog"]), "image": datasets.Image()}
    rows = {"label": [0, 1, 0, 1], "image": [Image.fromarray(pixels(seed, 8, 8)) for seed in range(4)]}
    datasets.Dataset.from_dict(rows, features=datasets.Features(kinds)).save_to_disk(str(folder / "set"))


def archives(folder: Path) -> None:
    """Two npz of images, one of them compressed, and statistics."""
    for name, save in (("mine", np.savez), ("theirs", np.savez_compressed)):
        save(folder / f"{name}.npz", arr_0=np.stack([pixels(seed, 8, 8) for seed in range(6)]), arr_1=np.arange(6))
    command(folder, f"stats theirs.npz stats.npz {FEATURES.partition(' --metrics')[0]}")


def pictures(num: int = 3) -> dict[str, bytes]:
    return {
        f"{name}/{k}.png": png(pixels(10 * label + k, 8, 8))
        for label, name in enumerate(("a", "b"))
        for k in range(num)
    }


def encoded_pictures(folder: Path) -> None:
    """A picture of every format."""
    (folder / "set").mkdir(exist_ok=True)
    for number, (suffix, options) in enumerate(
        [
            *((".png", {}), (".jpg", {}), (".webp", {}), (".bmp", {}), (".gif", {}), (".tif", {}), (".ppm", {})),
            *((".jp2", {}), (".avif", {}), (".tiff", {"compression": "tiff_lzw"}), (".png", {"exif": EXIF})),
        ]
    ):
        Image.fromarray(pixels(number, 16, 16)).save(folder / "set" / f"{number:02d}{suffix}", **options)


EXIF = Image.Exif()
EXIF[0x0112] = 6  # lies on its side


def labelled_by_json(folder: Path) -> None:
    files = {f"00000/{k}.png": png(pixels(k, 8, 8)) for k in range(4)}
    labels = {"labels": [[name, k % 2] for k, name in enumerate(files)]}
    write_folder(folder / "set", {**files, "dataset.json": json.dumps(labels).encode()})
    write_zip(folder / "set.zip", {**files, "dataset.json": json.dumps(labels).encode()})


def labelled_beside(folder: Path) -> None:
    files = {
        f"{k}.{kind}": content
        for k in range(4)
        for kind, content in (("png", png(pixels(k, 8, 8))), ("cls", b"%d" % (k % 2)))
    }
    write_folder(folder / "set", files)
    write_tar(folder / "set.tar", files)


def labelled_by_text(folder: Path) -> None:
    lines = "".join(f"{k}.JPEG\tn{k % 2:08d}\t0\t0\t7\t7\n" for k in range(4))
    write_folder(folder / "tiny", {f"images/{k}.JPEG": png(pixels(k, 8, 8)) for k in range(4)})
    (folder / "tiny" / "val_annotations.txt").write_text(lines)
    write_folder(folder / "faces", {f"{k}.jpg": png(pixels(k, 8, 8)) for k in range(4)})
    rows = "".join(f"{k}.jpg {1 - 2 * (k % 2)} 1\n" for k in range(4))
    (folder / "faces" / "list_attr_celeba.txt").write_text(f"4\nSmiling Young\n{rows}")


def latents_of_fast_dit(folder: Path) -> None:
    for part in ("x_features", "x_labels"):
        (folder / "set" / part).mkdir(parents=True)
    for k in range(3):
        np.save(
            folder / "set" / "x_features" / f"{k}.npy",
            np.random.default_rng(k).normal(size=(1, 4, 8, 8)).astype(np.float32),
        )
        np.save(folder / "set" / "x_labels" / f"{k}.npy", np.array([k % 2]))


def latents_of_lightning_dit(folder: Path) -> None:
    rows = torch.randn(4, 4, 8, 8)
    shard = {"latents": rows, "latents_flip": rows.flip(-1), "labels": torch.tensor([0, 1, 0, 1])}
    (folder / "set").mkdir(exist_ok=True)
    save_file(shard, folder / "set" / "latents_rank00_shard000.safetensors")
    torch.save({"mean": torch.zeros(1, 4, 1, 1), "std": torch.ones(1, 4, 1, 1)}, folder / "set" / "latents_stats.pt")


def encoded_set(folder: Path) -> None:
    write_folder(folder / "source", pictures())
    command(folder, "encode source set --autoencoder none --shard-rows 4")


def cached_classifier(folder: Path) -> None:
    """Its weights in the cache, untrained, and statistics that were made with it."""
    images = np.stack([pixels(seed, 8, 8) for seed in range(12)])
    np.savez(folder / "a.npz", arr_0=images)
    data = LabelledImages(images.transpose(0, 3, 1, 2), np.arange(12) % 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(classifier, "train", lambda data: (classifier.initial_weights(3, (8, 8), 2), 0.5))
        extractor = classifier.classifier_extractor(data, folder / "cache")
    save_statistics(statistics(images, extractor), folder / "stats.npz")


def cached_pictures(folder: Path) -> None:
    write_folder(folder / "source", pictures())
    command(folder, f"train images-32 --data.path source {TRAIN} --out run")
    shutil.rmtree(folder / "run")


def run_folder(folder: Path) -> None:
    """A run with a recording, a measured order, scores and samples."""
    write_folder(folder / "source", pictures(4))
    scored = "--evaluate.every 2 --evaluate.num-images 4 --evaluate.features helpers.files_of_all_kinds:means"
    solver = "--evaluate.sampler.solver ddim --evaluate.sampler.steps 1"
    training = f"train images-32 --data.path source --scheme adaln-mix {TRAIN}".replace("--steps 1", "--steps 2")
    command(folder, f"{training} --out run {scored} {solver}")
    command(folder, f"sample run {SAMPLE}")


def scheme_files(folder: Path) -> None:
    gate, scale = (
        '[gate]\nweight = {kind = "normal", std = 8e-4}\n',
        '[[scale]]\nweight = {kind = "laplace", std = 1e-3}\n',
    )
    (folder / "scheme.toml").write_text(f'name = "mine"\n{gate}{scale}{scale}opens = 3\n')


FINAL = '[[layers]]\nname = "final_layer.adaLN_modulation.1"\nrows = "final: shift scale"\n'


def layout_file(folder: Path) -> None:
    rows = "attn: shift scale gate; mlp: shift scale gate"
    (folder / "layout.toml").write_text(f'[[layers]]\nname = "blocks.N.adaLN_modulation.1"\nrows = "{rows}"\n' + FINAL)
    save_file(weights(), folder / "net.safetensors")


def means(images: torch.Tensor) -> torch.Tensor:
    """Features: the mean of each channel."""
    return images.float().mean(dim=(2, 3))


def command(folder: Path, words: str) -> tuple[int, list[str]]:
    """The exit code of a command in a folder, and its lines on standard error."""
    errors = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()), redirect_stderr(errors):
        patch.chdir(folder)
        patch.setenv("ADALN_CACHE", str(folder / "cache"))
        try:
            main(words.split())
        except SystemExit as stop:
            return int(stop.code or 0), errors.getvalue().splitlines()
    return 0, errors.getvalue().splitlines()


READS_WEIGHTS = (
    "audit {}", "fit {} --out fit.json",
    f"import {{}} --model tiny {NETWORK} --out run",
)  # fmt: skip


def reads_weights(file: str) -> tuple[str, ...]:
    return tuple(words.format(file) for words in READS_WEIGHTS)


def reads_pictures(path: str) -> tuple[str, ...]:
    return (
        f"data inspect {path}", f"train images-32 --data.path {path} {TRAIN} --out run",
        f"encode {path} out --autoencoder none", f"evaluate {path} --reference {path} {FEATURES}",
    )  # fmt: skip


KINDS = {
    "safetensors": Kind(
        lambda folder: save_file(weights(), folder / "net.safetensors"),
        "net.safetensors",
        reads_weights("net.safetensors"),
    ),
    "torch.save": Kind(lambda folder: torch.save(checkpoint(), folder / "net.pt"), "net.pt", reads_weights("net.pt")),
    "torch.save before 1.6": Kind(
        lambda folder: torch.save(checkpoint(), folder / "net.pth", _use_new_zipfile_serialization=False),
        "net.pth",
        reads_weights("net.pth"),
    ),
    "shards and their index": Kind(
        lambda folder: sharded(folder, weights()),
        "*.json,*.safetensors",
        reads_weights("model.safetensors.index.json"),
    ),
    "folder of diffusers": Kind(of_diffusers, "net/*", (*reads_weights("net"), "distributions net --out shapes")),
    "autoencoder": Kind(autoencoder, "vae/*", ("encode source out --autoencoder vae --device cpu",)),
    "Hugging Face set": Kind(saved_to_disk, "set/*", reads_pictures("set")[:3]),
    "adapter": Kind(adapter, "lora/*", ("audit lora",)),
    "npz": Kind(
        archives,
        "*.npz",
        (
            f"evaluate mine.npz --reference theirs.npz {FEATURES}",
            f"evaluate theirs.npz --reference stats.npz {FEATURES}",
            f"evaluate stats.npz --reference mine.npz {FEATURES}",
            "stats mine.npz out.npz --features helpers.files_of_all_kinds:means",
        ),
    ),
    "zip of pictures": Kind(
        lambda folder: write_zip(folder / "set.zip", pictures()), "set.zip", reads_pictures("set.zip")
    ),
    "tar of pictures": Kind(
        lambda folder: write_tar(folder / "set.tar", pictures()), "set.tar", reads_pictures("set.tar")
    ),
    "pictures": Kind(encoded_pictures, "set/*", reads_pictures("set")),
    "dataset.json": Kind(
        labelled_by_json, "set/dataset.json,set.zip", (*reads_pictures("set"), *reads_pictures("set.zip"))
    ),
    "class files": Kind(labelled_beside, "set/*.cls,set.tar", (*reads_pictures("set"), *reads_pictures("set.tar"))),
    "tables of labels": Kind(
        labelled_by_text,
        "*/*.txt",
        (*reads_pictures("tiny")[:2], *reads_pictures("faces#Smiling")[:2]),
    ),
    "latents of fast-DiT": Kind(
        latents_of_fast_dit,
        "set/*/*.npy",
        ("data inspect set", f"train imagenet-256 --data.path set --data.size None --data.no-flip {TRAIN} --out run"),
    ),
    "latents of LightningDiT": Kind(
        latents_of_lightning_dit,
        "set/*",
        ("data inspect set", f"train imagenet-256 --data.path set --data.size None {TRAIN} --out run"),
    ),
    "encoded set": Kind(
        encoded_set,
        "set/*.safetensors,set/*.json",
        (
            "data inspect set",
            f"train images-32 --data.path set --data.size 8 {TRAIN} --out run",
            "encode source set --autoencoder none --shard-rows 4",
        ),
    ),
    "classifier": Kind(
        cached_classifier, "cache/classifier-*,stats.npz", ("evaluate a.npz --reference stats.npz --metrics fid",)
    ),
    "decoded pictures": Kind(cached_pictures, "cache/**/*", (f"train images-32 --data.path source {TRAIN} --out run",)),
    "run": Kind(
        run_folder,
        "run/*.json*,run/*/*.json*,run/*/*.npz,run/checkpoints/*/*",
        (
            "report run",
            f"sample run {SAMPLE}",
            f"evaluate run --reference run {FEATURES}",
            "explain run",
            "compare run run",
            "audit run",
            "export run --out x.safetensors",
            f"train images-32 --data.path source --scheme adaln-mix {TRAIN} --steps 3 --out run",
        ),
    ),
    "scheme": Kind(scheme_files, "scheme.*", (f"train digits --scheme scheme.toml {TRAIN} --out run",)),
    "layout": Kind(layout_file, "layout.toml", ("audit net.safetensors --family layout.toml",)),
}
