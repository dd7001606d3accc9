"""Feature networks in local folders, as transformers and timm write them: config.json beside safetensors.

Both libraries are asked for the network alone. Nothing of the folder is run, nothing is fetched, and images are brought
to the network by `preprocessing`, whatever version of a library is installed.
"""

# mypy: disable-error-code="no-untyped-call"
# transformers types a part of itself.

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Float32
from safetensors import safe_open
from torch import Tensor, nn

from adaln.files import file_sha256, reading, reason
from adaln.metrics.features import Extractor, Features, Images
from adaln.metrics.preprocessing import Preprocessing, of_timm, of_transformers
from adaln.registry import nearest
from adaln.tensor_files import load_tensors, misfit

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
EXPECTED = f"a folder as transformers or timm writes it ({CONFIG}, {WEIGHTS})"
PASSING = frozenset({"transformers_version", "_name_or_path", "dtype", "torch_dtype", "label_names", "id2label"})
"""What a config.json says that moves no feature."""
Forward = Callable[[Float32[Tensor, "B 3 h w"]], Float[Tensor, "B F"]]


class Network(NamedTuple):
    """A network of a folder, and how it is used."""

    module: nn.Module
    forward: Forward
    architecture: str
    output: str
    """Which of its outputs the features are."""
    preprocessing: Preprocessing


def folder_extractor(folder: Path, *, device: torch.device | str = "cpu") -> Extractor:
    """The features of the network in a folder, in float32.

    Of transformers, what the library calls the features of an image where a network sees texts as well (CLIP's are
    projected), else the pooled output, else the class token or the mean over the last map; of timm, what its classifier
    would see. The fingerprint is over weights, config and preprocessing.

    Raises `ValueError` for what is no such folder, names code of its own, or gives features that are no function of the
    image; and where the library is missing.
    """
    config = read_config(folder)
    library = "transformers" if "model_type" in config else "timm"
    files = weight_files(folder, allow_parts=library == "transformers")
    if find_spec(library) is None:
        raise ValueError(f"the network in {str(folder)!r} needs {library}: pip install 'adaln[features]'")
    try:
        with reading(folder, f"a feature network that {library} can load"):
            check_stored(files)
            network = {"timm": open_timm, "transformers": open_transformers}[library](folder, config)
    except ImportError as error:  # of a quantisation or a kernel that its config asks for
        raise ValueError(f"the network in {str(folder)!r} needs more than {library}: {reason(error)}") from error
    network.module.eval().requires_grad_(False).float().to(device)

    def features(images: Images) -> Features:
        pixels = network.preprocessing(images).to(device)
        with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
            return Features(network.forward(pixels).float().flatten(1).cpu())

    settled = {name: value for name, value in config.items() if name not in PASSING}
    identity = (
        library,
        network.architecture,
        network.output,
        network.preprocessing,
        json.dumps(settled, sort_keys=True),
    )
    digest = hashlib.sha256(repr((identity, [file_sha256(file) for file in files])).encode()).hexdigest()
    details = {"folder": str(folder.resolve()), "output": network.output, **network.preprocessing.words()}
    label = f"{network.architecture} features ({library}: {network.output}), not comparable with Inception FID"
    extractor = Extractor(f"{library}:{network.architecture}", label, digest, features, details)
    check_fixed(extractor, folder)
    return extractor


def check_fixed(extractor: Extractor, folder: Path) -> None:
    """ValueError for a network that cannot see images, or whose features differ from call to call."""
    images = torch.arange(2 * 3 * 64 * 64).remainder(251).to(torch.uint8).reshape(2, 3, 64, 64)
    with reading(folder, "a network that sees images"):
        first, second = (extractor(images).pool for _ in range(2))
    if not torch.isfinite(first).all():
        raise ValueError(
            f"{str(folder)!r}: the features of an image are NaN or infinite; expected intact weights, and a"
            " preprocessing (image_std, rescale_factor) that keeps images finite"
        )
    if not torch.equal(first, second):
        raise ValueError(
            f"{str(folder)!r}: the features of one image differ from call to call (as a masked autoencoder's do, which"
            " masks at random); expected a function of the image"
        )


def read_config(folder: Path) -> dict[str, Any]:
    """The config.json of a network's folder; `ValueError` where there is none that can be followed."""
    config = read_json(folder / CONFIG, f"{str(folder)!r} is no feature network; expected {EXPECTED}")
    if "auto_map" in config:
        raise ValueError(
            f"{str(folder / CONFIG)!r} names code of its own (auto_map: {config['auto_map']}), which is never run;"
            " expected a network of the library's own, or module:function for features of yours"
        )
    if not any(isinstance(config.get(name), str) for name in ("model_type", "architecture")):
        raise ValueError(
            f"{str(folder / CONFIG)!r} says neither a model_type, as transformers does, nor an architecture, as timm;"
            f" expected {EXPECTED}"
        )
    return config


def read_json(file: Path, missing: str) -> dict[str, Any]:
    """An object of JSON; `ValueError` with the line `missing` where there is no such file."""
    if not file.is_file():
        raise ValueError(missing)
    with reading(file, "names and values in JSON"):
        content = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError(f"it holds a {type(content).__name__}")
    return content


def weight_files(folder: Path, allow_parts: bool) -> list[Path]:
    """The files of safetensors that hold the weights; `ValueError` where there are none."""
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if allow_parts and (folder / INDEX).is_file():
        parts = read_json(folder / INDEX, "").get("weight_map", {})
        with reading(folder / INDEX, "an index of weights"):
            return [folder / Path(name).name for name in sorted(set(parts.values()))]
    pickles = sorted(file.name for kind in ("*.bin", "*.pth", "*.pt") for file in folder.glob(kind))
    way = f"; {pickles[0]} may run code and is not read: save it as safetensors" if pickles else ""
    raise ValueError(f"{str(folder)!r} has no {WEIGHTS}{way}")


def check_stored(files: Iterable[Path]) -> None:
    """ValueError for weights in whole numbers of eight bits, which mean nothing without the factors beside them."""
    for file in files:
        with safe_open(file, "pt") as tensors:
            for name in [*tensors.keys()]:
                if (stored := tensors.get_slice(name).get_dtype()) in ("I8", "U8"):
                    raise ValueError(f"its weights are quantised ({name} is {stored}); expected floating-point numbers")


def open_transformers(folder: Path, config: Mapping[str, Any]) -> Network:
    """A network of the library's own classes with all of its weights."""
    import transformers

    named = (config.get("architectures") or [""])[0]
    loader = transformers.AutoModel
    if named.endswith("VisionModelWithProjection"):  # which AutoModel would take without the projection
        loader = getattr(transformers, named)
    with quiet_transformers():
        module, loading = loader.from_pretrained(
            str(folder),
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            ignore_mismatched_sizes=True,  # they are named below
            output_loading_info=True,
        )
    mismatched = [f"{name}: {tuple(got)}, expected {tuple(sizes)}" for name, got, sizes in loading["mismatched_keys"]]
    if mismatched:
        raise ValueError(f"{len(mismatched)} of its weights are of other sizes than config.json says ({mismatched[0]})")
    if unread := blocks_beyond(module, loading["unexpected_keys"]):
        raise ValueError(f"{len(unread)} of its weights are of blocks that config.json does not count ({unread[0]})")
    lacking = sorted(loading["missing_keys"])
    has_pooler = not lacking or not all(name.startswith("pooler.") for name in lacking)
    if lacking and has_pooler:
        raise ValueError(f"its weights lack {len(lacking)} of its tensors ({lacking[0]})")
    forward, output = _output_of(module, has_pooler)
    return Network(module, forward, type(module).__name__, output, _processor(folder))


def blocks_beyond(module: nn.Module, unread: Iterable[str]) -> list[str]:
    """Of names of weights that a network did not take, those which lie in its lists of blocks, and not in a head."""
    lists = tuple(f"{name}." for name, part in module.named_modules() if isinstance(part, nn.ModuleList))
    return sorted(name for name in unread if name.startswith(lists))


def _output_of(module: Any, has_pooler: bool) -> tuple[Forward, str]:
    """What of a network's outputs the features are, and its name."""
    if hasattr(module, "get_image_features"):

        def of_both(pixels: Tensor) -> Tensor:
            result = module.get_image_features(pixel_values=pixels)
            features: Tensor = result if isinstance(result, Tensor) else result.pooler_output
            return features

        return of_both, "image features"
    with torch.inference_mode():
        side = module.config.to_dict().get("image_size") or 224
        sides = (side, side) if isinstance(side, int) else side
        offered = module(pixel_values=torch.zeros(1, 3, *sides))
    if "image_embeds" in offered:
        return lambda pixels: module(pixel_values=pixels).image_embeds, "image_embeds"
    if has_pooler and offered.get("pooler_output") is not None:
        return lambda pixels: module(pixel_values=pixels).pooler_output, "pooler_output"
    if offered.last_hidden_state.ndim == 3:
        return lambda pixels: module(pixel_values=pixels).last_hidden_state[:, 0], "class token"
    return lambda pixels: module(pixel_values=pixels).last_hidden_state.mean(dim=(2, 3)), "mean over the last map"


def _processor(folder: Path) -> Preprocessing:
    """What the folder says of its images."""
    file = folder / "preprocessor_config.json"
    if not file.is_file() and (folder / "processor_config.json").is_file():
        file = folder / "processor_config.json"
    config = read_json(file, f"{str(folder)!r} has no {file.name}, which says how images are resized and normalised")
    config = config.get("image_processor", config)
    if "auto_map" in config:
        raise ValueError(f"{str(file)!r} names code of its own (auto_map: {config['auto_map']}), which is never run")
    with reading(file, "a preprocessing that can be followed"):
        return of_transformers(config)


def open_timm(folder: Path, config: Mapping[str, Any]) -> Network:
    """A network without its classifier, with all of its weights."""
    import timm
    from timm.data import resolve_model_data_config

    name = config["architecture"]
    if not timm.is_model(name):
        raise ValueError(f"timm knows no architecture {name!r}{nearest(name, timm.list_models())}")
    with torch.random.fork_rng(devices=[]):
        module = timm.create_model(f"local-dir:{folder}", pretrained=False, num_classes=0)
    classifier = module.pretrained_cfg.get("classifier") or ()
    heads = tuple(f"{head}." for head in ((classifier,) if isinstance(classifier, str) else classifier))
    expected = module.state_dict()
    weights = {
        key: tensor
        for key, tensor in load_tensors(folder / WEIGHTS).items()
        if key in expected or not key.startswith(heads)
    }
    if wrong := misfit(expected, weights):
        raise ValueError(f"its weights are not those of {name}: {wrong}")
    module.load_state_dict(weights)
    return Network(module, module, name, "what its classifier sees", of_timm(resolve_model_data_config(module)))


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """In this block transformers prints nothing: what it would say of missing weights is refused here."""
    from transformers.utils import logging as of_transformers

    verbosity, has_bar = of_transformers.get_verbosity(), of_transformers.is_progress_bar_enabled()
    of_transformers.set_verbosity(logging.CRITICAL)
    of_transformers.disable_progress_bar()
    try:
        yield
    finally:
        of_transformers.set_verbosity(verbosity)
        if has_bar:
            of_transformers.enable_progress_bar()
