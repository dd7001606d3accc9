"""Feature networks in folders: what identifies them, what is refused, and that they are the libraries' own."""

import json
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from adaln.evaluation.samples import Reference
from adaln.metrics import evaluate, load_extractor, save_statistics, statistics
from adaln.rng import generator

PROCESSOR = {
    "size": {"height": 16, "width": 16},
    "resample": 3,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.25, 0.25, 0.25],
    "image_processor_type": "ViTImageProcessor",
}


class Pooling(torch.nn.Module):
    """Stands for a network of transformers: means of a grid, mixed."""

    config = SimpleNamespace(to_dict=lambda: {"image_size": 16})

    def __init__(self, noise: float) -> None:
        super().__init__()
        self.mix, self.noise = torch.nn.Linear(12, 8, bias=False), noise
        self.blocks = torch.nn.ModuleList()

    def forward(self, pixel_values):
        means = torch.nn.functional.adaptive_avg_pool2d(pixel_values, 2).flatten(1)
        pooled = self.mix(means)
        return Output(pooler_output=pooled + self.noise * torch.rand_like(pooled))


class Output(dict):
    __getattr__ = dict.__getitem__


class AutoModel:
    @staticmethod
    def from_pretrained(folder, **options):
        assert options["local_files_only"]
        assert options["use_safetensors"]
        assert not options["trust_remote_code"]
        config = json.loads((Path(folder) / "config.json").read_text())
        if config.get("attention") == "flash":
            raise ImportError("flash attention\nis not installed")
        module = Pooling(config.get("noise", 0.0))
        weights, own = load_file(Path(folder) / "model.safetensors"), module.state_dict()
        sizes = [(name, weights[name].shape, own[name].shape) for name in own.keys() & weights.keys()]
        mismatched = [each for each in sizes if each[1] != each[2]]
        assert options["ignore_mismatched_sizes"] or not mismatched
        fitting = {name: weights[name] for name, got, expected in sizes if got == expected}
        return module, {
            "missing_keys": module.load_state_dict(fitting, strict=False).missing_keys,
            "mismatched_keys": mismatched,
            "unexpected_keys": weights.keys() - own.keys(),
        }


@pytest.fixture
def library(monkeypatch):
    """In the place of transformers."""
    made, utils = ModuleType("transformers"), ModuleType("transformers.utils")
    made.__spec__, made.AutoModel, made.utils = ModuleSpec("transformers", None), AutoModel, utils
    utils.logging = SimpleNamespace(
        get_verbosity=lambda: 30,
        set_verbosity=lambda level: None,
        is_progress_bar_enabled=lambda: True,
        disable_progress_bar=lambda: None,
        enable_progress_bar=lambda: None,
    )
    monkeypatch.setitem(sys.modules, "transformers", made)
    monkeypatch.setitem(sys.modules, "transformers.utils", utils)


def folder_of(path: Path, config: dict | None = None, processor: dict | None = None, seed: int = 0) -> Path:
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps({"model_type": "pooling"} | (config or {})))
    (path / "preprocessor_config.json").write_text(json.dumps(PROCESSOR | (processor or {})))
    save_file({"mix.weight": torch.randn(8, 12, generator=generator("mix", seed))}, path / "model.safetensors")
    return path


def pictures(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 16, 16, 3), dtype=np.uint8)


def opened(path: Path):
    return load_extractor(str(path), cache=path)


def test_a_folder_is_scored_in_by_its_path_and_the_record_says_what_was_done(library, tmp_path, monkeypatch):
    folder_of(tmp_path / "dino")
    monkeypatch.chdir(tmp_path)
    for name in ("dino", "./dino", str(tmp_path / "dino")):
        extractor = load_extractor(name, cache=tmp_path)
        scores = evaluate(pictures(40), pictures(50, 1), extractor, ["fid", "mind"], replicates=0)
    record = scores.provenance["extractor"]
    assert record["name"] == "transformers:Pooling"
    assert record["label"] == "Pooling features (transformers: pooler_output), not comparable with Inception FID"
    assert record["details"] == {
        "folder": str(tmp_path / "dino"),
        "output": "pooler_output",
        "resize": "16x16, bicubic, antialiased",
        "crop": "none",
        "factor": "0.00392157",
        "mean": "0.5, 0.5, 0.5",
        "std": "0.25, 0.25, 0.25",
    }


def test_features_are_the_networks_of_the_preprocessed_images(library, tmp_path):
    folder = folder_of(tmp_path / "net")
    images = torch.from_numpy(pictures(3)).permute(0, 3, 1, 2)
    means = ((images / 255 - 0.5) / 0.25).reshape(3, 3, 2, 8, 2, 8).mean(dim=(3, 5)).flatten(1)
    torch.testing.assert_close(
        opened(folder)(images).pool, means @ load_file(folder / "model.safetensors")["mix.weight"].T
    )


def test_the_fingerprint_is_over_weights_config_and_preprocessing_and_not_over_place_or_version(library, tmp_path):
    first = opened(folder_of(tmp_path / "a")).fingerprint
    assert opened(folder_of(tmp_path / "b" / "c", {"transformers_version": "9"})).fingerprint == first
    others = (({"eps": 1}, {}, 0), ({}, {"resample": 2}, 0), ({}, {"image_std": [1, 1, 1]}, 0), ({}, {}, 1))
    changed = {opened(folder_of(tmp_path / str(k), *other)).fingerprint for k, other in enumerate(others)}
    assert len(changed | {first}) == 1 + len(others)


def test_statistics_find_their_network_again_and_are_refused_with_another(library, tmp_path):
    network, other = folder_of(tmp_path / "net"), folder_of(tmp_path / "other", seed=1)
    save_statistics(statistics(pictures(50, 1), opened(network)), tmp_path / "ref.npz")
    reference = Reference.of(tmp_path / "ref.npz")
    extractor = reference.extractor()
    assert evaluate(pictures(40), tmp_path / "ref.npz", extractor, ["fid"], replicates=0)["fid"].value > 0
    with pytest.raises(ValueError, match="different extractors"):
        evaluate(pictures(40), tmp_path / "ref.npz", opened(other), ["fid"])


def without(name: str):
    return lambda folder: (folder / name).unlink()


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def incomplete(folder: Path) -> None:
    save_file({"other": torch.zeros(2)}, folder / "model.safetensors")


def with_weights(**weights: torch.Tensor):
    """Of a folder's weights, others in their place or beside them."""
    named = {name.replace("_", "."): tensor for name, tensor in weights.items()}

    def rewrite(folder: Path) -> None:
        file = folder / "model.safetensors"
        save_file(load_file(file) | named, file)

    return rewrite


@pytest.mark.parametrize(
    ("config", "processor", "damage", "said"),
    [
        ({}, {}, without("config.json"), "is no feature network; expected a folder as transformers or timm writes it"),
        ({}, {}, without("model.safetensors"), "has no model.safetensors"),
        ({}, {}, pickled, "pytorch_model.bin may run code and is not read: save it as safetensors"),
        (
            {},
            {},
            without("preprocessor_config.json"),
            "has no preprocessor_config.json, which says how images are resized",
        ),
        ({}, {}, incomplete, "its weights lack 1 of its tensors (mix.weight)"),
        (
            {},
            {},
            with_weights(mix_weight=torch.ones(4, 12)),
            "1 of its weights are of other sizes than config.json says (mix.weight: (4, 12), expected (8, 12))",
        ),
        (
            {},
            {},
            with_weights(blocks_0_weight=torch.ones(2), head_weight=torch.ones(3)),
            "1 of its weights are of blocks that config.json does not count (blocks.0.weight)",
        ),
        (
            {},
            {},
            with_weights(mix_weight=torch.ones(8, 12, dtype=torch.int8)),
            "its weights are quantised (mix.weight is I8); expected floating-point numbers",
        ),
        (
            {},
            {},
            with_weights(mix_weight=torch.full((8, 12), torch.nan)),
            "are NaN or infinite; expected intact weights",
        ),
        ({}, {"image_std": [0, 0, 0]}, None, "are NaN or infinite; expected intact weights, and a preprocessing"),
        ({"attention": "flash"}, {}, None, "needs more than transformers: flash attention is not installed"),
        ({}, {}, lambda folder: (folder / "config.json").write_text("[1]"), "it holds a list"),
        ({}, {}, lambda folder: (folder / "config.json").write_text("{"), "is not names and values in JSON"),
        ({"model_type": 3}, {}, None, "says neither a model_type, as transformers does, nor an architecture, as timm"),
        (
            {"auto_map": {"AutoModel": "own.Model"}},
            {},
            None,
            "names code of its own (auto_map: {'AutoModel': 'own.Model'})",
        ),
        ({}, {"auto_map": {"AutoImageProcessor": "own.P"}}, None, "which is never run"),
        ({}, {"do_pad": True}, None, "it asks for do_pad"),
        ({"noise": 1.0}, {}, None, "the features of one image differ from call to call"),
    ],
)
def test_what_is_no_network_of_the_library_is_refused_in_one_line(library, tmp_path, config, processor, damage, said):
    folder = folder_of(tmp_path / "net", config, processor)
    if damage:
        damage(folder)
    with pytest.raises(ValueError) as caught:
        opened(folder)
    assert said in str(caught.value)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_weights_of_a_head_beside_the_networks_are_passed_over(library, tmp_path):
    folder = folder_of(tmp_path / "net")
    with_weights(head_weight=torch.ones(3))(folder)
    assert opened(folder).name == "transformers:Pooling"


@pytest.mark.parametrize(
    ("config", "library"), [({"model_type": "dinov2"}, "transformers"), ({"architecture": "vit"}, "timm")]
)
def test_without_its_library_one_line_says_what_to_install(tmp_path, monkeypatch, config, library):
    folder = folder_of(tmp_path / "net")
    (folder / "config.json").write_text(json.dumps(config))
    monkeypatch.setattr("adaln.metrics.network_folders.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=rf"needs {library}: pip install 'adaln\[features\]'"):
        opened(folder)


def smooth(count: int, height: int, width: int) -> torch.Tensor:
    coarse = torch.rand(count, 3, height // 4 + 1, width // 4 + 1, generator=generator("smooth", height, width))
    return (torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1) * 255).to(torch.uint8)


def small_networks(transformers) -> dict:
    """Of each kind of output one, with its processor."""
    vision = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28, "patch_size": 14}
    text = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "vocab_size": 9,
    }
    square = {"height": 28, "width": 28}
    clip = transformers.CLIPConfig(projection_dim=8, text_config=text, vision_config=vision)
    convnext = transformers.ConvNextV2Config(hidden_sizes=[8, 16, 16, 16], depths=[1, 1, 1, 1])
    crop = {"size": {"shortest_edge": 32}, "crop_size": square}
    return {
        "dinov2": (
            transformers.Dinov2Model(transformers.Dinov2Config(**vision)),
            transformers.BitImageProcessor(**crop),
        ),
        "clip": (transformers.CLIPModel(clip), transformers.CLIPImageProcessor(**crop)),
        "vision": (
            transformers.CLIPVisionModelWithProjection(transformers.CLIPVisionConfig(projection_dim=8, **vision)),
            transformers.CLIPImageProcessor(**crop),
        ),
        "convnext": (
            transformers.ConvNextV2Model(convnext),
            transformers.ConvNextImageProcessor(size={"shortest_edge": 32}),
        ),
        "vit": (
            transformers.ViTForImageClassification(transformers.ViTConfig(**vision)),
            transformers.ViTImageProcessor(size=square),
        ),
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dinov2", "clip", "vision", "convnext", "vit"])
def test_features_are_those_of_transformers_own_processor_and_network(tmp_path, name):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)  # how far a network carries Pillow's rounding depends on its weights
    network, processor = small_networks(transformers)[name]
    for part in (network, processor):
        part.save_pretrained(tmp_path / name)
    extractor = opened(tmp_path / name)
    network.eval()
    for height, width in ((64, 64), (51, 70), (16, 20)):
        images = smooth(4, height, width)
        pixels = processor(images=[*images], return_tensors="pt")["pixel_values"]
        with torch.inference_mode():
            if name == "clip":
                theirs = network.get_image_features(pixel_values=pixels)
                theirs = getattr(theirs, "pooler_output", theirs)
            elif name == "vit":
                theirs = network.vit(pixel_values=pixels).last_hidden_state[:, 0]
            else:
                output = network(pixel_values=pixels)
                theirs = output.image_embeds if name == "vision" else output.pooler_output
        ours, theirs = extractor(images).pool, theirs.flatten(1)
        if type(processor).__name__.endswith("Pil"):  # without torchvision it resizes bytes, as timm does
            assert (ours - theirs).abs().max() < 5e-3 * theirs.abs().max()
        else:
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_a_masked_autoencoder_of_transformers_is_refused(tmp_path):
    transformers = pytest.importorskip("transformers")
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28, "patch_size": 2}
    transformers.ViTMAEModel(transformers.ViTMAEConfig(**small)).save_pretrained(tmp_path / "mae")
    transformers.ViTImageProcessor(size={"height": 28, "width": 28}).save_pretrained(tmp_path / "mae")
    with pytest.raises(ValueError, match="masks at random"):
        opened(tmp_path / "mae")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["test_vit", "test_convnext", "test_resnet"])
def test_features_are_those_of_timms_own_transform_and_network_up_to_pillows_rounding(tmp_path, name):
    timm = pytest.importorskip("timm")
    network = timm.create_model(name, num_classes=10).eval()
    timm.models.save_for_hf(network, tmp_path / name, model_args={"num_classes": 10}, safe_serialization=True)
    extractor = opened(tmp_path / name)
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(network))
    network.reset_classifier(0)
    for height, width in ((300, 300), (51, 70)):
        images = smooth(3, height, width)
        pixels = torch.stack([transform(Image.fromarray(image.permute(1, 2, 0).numpy())) for image in images])
        with torch.inference_mode():
            theirs = network(pixels)
        assert (extractor(images).pool - theirs).abs().max() < 5e-3 * theirs.abs().max()
